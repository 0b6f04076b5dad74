"""A file of recorded numbers, and the book-keeping of what became of every array in it.

An array ends in one of four states: an *input* that an adapter read, an output that was *checked*, an output that an
adapter *left* with a reason, or untouched. The last two are what the table at the end calls "not covered".
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path as FilePath

import numpy as np
import torch
from torch import Tensor

OWN_FOLDER = FilePath(__file__).parent.parent / "reference"


def folder() -> FilePath:
    """Where the recorded numbers are: LOGSNR_REFERENCE, else tests/reference."""
    return FilePath(os.environ.get("LOGSNR_REFERENCE") or OWN_FOLDER)


def files() -> list[FilePath]:
    """Every npz file of the folder; ValueError when it has none."""
    found = sorted(folder().glob("*.npz"))
    if not found:
        raise ValueError(f"LOGSNR_REFERENCE = {folder()}; allowed: a folder of npz files")
    return found


def shortfall(value: Tensor, truth: Tensor, tolerance: float, floor: float = 0.0) -> float:
    """max |value − truth| over tolerance · max |truth| + floor: at most 1 is a pass; ∞ for a wrong shape or NaN.

    Infinite entries of `truth` must be met exactly and do not set the scale.
    """
    if value.shape != truth.shape:
        return float("inf")
    value, truth = value.detach().double(), truth.double()
    finite = truth.isfinite()
    if not (value.isfinite() == finite).all() or not torch.equal(value[~finite], truth[~finite]):
        return float("inf")
    error = float((value - truth)[finite].abs().max()) if finite.any() else 0.0
    if error == 0:
        return 0.0
    allowed = tolerance * float(truth[finite].abs().max()) + floor
    return error / allowed if allowed else float("inf")


class Reference:
    """The arrays of one npz file, by name."""

    def __init__(self, path: FilePath) -> None:
        with np.load(path, allow_pickle=False) as stored:
            self.arrays = {key: stored[key] for key in stored.files}
        self.name = path.stem
        self.has_adapter = True
        self.inputs: set[str] = set()
        self.left: dict[str, str] = {}
        self.checked: dict[str, float] = {}
        self.facts: dict[str, float] = {}

    def keys(self, pattern: str) -> Iterator[re.Match[str]]:
        """Matches of a regular expression with whole array names, in the order of the file."""
        return filter(None, [re.fullmatch(pattern, key) for key in self.arrays])

    def __contains__(self, key: str) -> bool:
        return key in self.arrays

    def read(self, key: str, dtype: torch.dtype | None = torch.float64) -> Tensor:
        """An input. Floating arrays in `dtype`, integers as they are."""
        self.inputs.add(key)
        value = torch.from_numpy(np.array(self.arrays[key]))
        return value.to(dtype) if value.is_floating_point() else value

    def number(self, key: str) -> int:
        """An integer input of shape ()."""
        return int(self.read(key))

    def text(self, key: str) -> str:
        """A string input."""
        self.inputs.add(key)
        return str(self.arrays[key])

    def recorded(self, key: str) -> Tensor:
        """What was recorded under `key`, without counting it as an input."""
        return torch.from_numpy(np.array(self.arrays[key]))

    def check(self, key: str, value: Tensor, tolerance: float, *, floor: float = 0.0) -> None:
        """Compare the library's `value` with array `key`: relative to its max-abs, or `floor`, an absolute slack.

        `f32_` arrays must have been computed in float32 and all others in float64, so that neither hides the other.
        Where nothing was recorded, nothing is compared: a misspelt key shows as an array unknown to the adapter.
        """
        if key not in self:
            return
        truth = self.recorded(key)
        if value.is_floating_point():
            wanted = torch.float32 if key.startswith("f32_") else torch.float64
            assert value.dtype == wanted, f"{key}: computed in {value.dtype}, to be compared in {wanted}"
        self.checked[key] = shortfall(value, truth, tolerance, floor)

    def fact(self, what: str, value: Tensor, truth: Tensor, tolerance: float, *, floor: float = 0.0) -> None:
        """A value beside the recorded ones, where an original is approximate or wrong."""
        self.facts[what] = shortfall(value, truth, tolerance, floor)

    def leave(self, pattern: str, reason: str) -> None:
        """Outputs that this library does not have (yet)."""
        self.left.update({match[0]: reason for match in self.keys(pattern)})

    @property
    def not_covered(self) -> dict[str, str]:
        """What was neither read nor checked, and why."""
        touched = self.inputs | self.checked.keys()
        return {
            key: self.left.get(key, "no adapter" if not self.has_adapter else "unknown to the adapter")
            for key in self.arrays
            if key not in touched
        }

    @property
    def unknown(self) -> list[str]:
        """Arrays that no adapter touched or left."""
        return [key for key in self.not_covered if key not in self.left]

    @property
    def failures(self) -> list[str]:
        """One line for each number that is off."""
        measured = [*self.checked.items(), *self.facts.items()]
        return [f"{self.name}: {what} is off by {ratio:.3g} tolerances" for what, ratio in measured if not ratio <= 1]

    @property
    def worst(self) -> tuple[float, str]:
        """The largest error in units of its tolerance, and whose it is."""
        return max(((ratio, key) for key, ratio in {**self.checked, **self.facts}.items()), default=(0.0, ""))
