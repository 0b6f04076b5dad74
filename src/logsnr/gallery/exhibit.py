"""What a demonstration is given, and what it is."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import torch

import logsnr

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from logsnr.gallery.checks import Check
    from logsnr.run import Trained

T = TypeVar("T")
Found = TypeVar("Found")

QUICK_STEPS = 40  # of a training that is only to be seen running


@dataclass(frozen=True)
class Setting:
    """What a demonstration is given: a seed, a size, and models that several of them share.

    models: where trained models are kept; one that is there already is not trained again.
    quick: the reduced size, seconds instead of minutes.
    """

    seed: int
    models: Path
    quick: bool = False
    say: Callable[[str], None] = lambda text: None

    def of(self, full: T, quick: T) -> T:
        """A number for each of the two sizes."""
        return quick if self.quick else full

    def draws(self, count: int, step: int = 0) -> logsnr.Draws:
        """Random numbers for `count` examples; another step has others."""
        return logsnr.Draws(self.seed, step, torch.arange(count), count)

    def trained(
        self,
        name: str,
        recipe: str,
        *,
        minutes: float,
        data: str = "digits",
        settings: Mapping[str, Any] | None = None,
    ) -> Trained:
        """A recipe trained for so many minutes with this seed, under a name that says what is special about it.

        settings: leaves of the configuration by their dotted names. Reduced size: `QUICK_STEPS` steps, a tiny network.
        """
        out = self.models / f"{name}-seed{self.seed}{'-quick' if self.quick else ''}"
        law: dict[str, Any] = {"train.steps": QUICK_STEPS, "network": "tiny"} if self.quick else {}
        if not self.quick:
            law = {"train.steps": 10**6, "train.minutes": minutes}
        self.say(f"training {recipe} as {out.name}: {'a few steps' if self.quick else f'{minutes:g} minutes'}")
        leaves = {"train.preview_every": 0, "seed": self.seed, **law, **(settings or {})}
        logsnr.train_recipe(recipe, out, data=data, settings=leaves)
        return logsnr.load(out, exact=True)  # what is measured is measured in float32


@dataclass(frozen=True)
class Exhibit(Generic[Found]):
    """One claim. source: paper and equations in words. equations: identifiers of docs/equations.md.

    code: the function, a dozen lines, that is the claim's heart and is printed beside the picture.
    trained: whether it is about networks trained for minutes; the others are the analytic and the quick set.
    """

    source: str
    equations: tuple[str, ...]
    measure: Callable[[Setting], Found]
    checks: Callable[[Found], tuple[Check, ...]]
    draw: Callable[[Found, Figure], None]
    code: Callable[..., Any]
    trained: bool = False

    @property
    def module(self) -> str:
        """Name of its file, without the folder and the ending."""
        return self.measure.__module__.rsplit(".", 1)[-1]

    @property
    def name(self) -> str:
        """G7 of `g07_invariance`."""
        number = re.match(r"g(\d+)_", self.module)
        assert number is not None, f"{self.module} is no file of the gallery"
        return f"G{int(number[1])}"

    @property
    def title(self) -> str:
        """The first line of the module's docstring."""
        return self._document[0].rstrip(".")

    @property
    def claim(self) -> str:
        """The paragraphs of the docstring below the title."""
        return self._document[1]

    @property
    def _document(self) -> tuple[str, str]:
        title, _, claim = inspect.cleandoc(sys.modules[self.measure.__module__].__doc__ or "").partition("\n")
        return title, claim.strip()

    @property
    def source_code(self) -> str:
        """Of `code`."""
        return inspect.getsource(self.code)
