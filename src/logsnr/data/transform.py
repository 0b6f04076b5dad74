r"""Between the data's own numbers and model units, in both directions, with the volume factor that bits/dim
needs.

Discrete data has L grey levels k = 0 .. L−1. They are mapped to

    x = 2k/(L−1) − 1,        L equally spaced points of [−1, 1], a bin width of 2/(L−1)

(DDPM's x/127.5 − 1 when L = 256). A density over x turns into a probability of k by multiplying with the bin
width, so nats per dimension in model units and bits per dimension of the data differ by an additive constant,

    bits/dim = nats/dim / log 2 + log2(1/width),        log2(127.5) = 6.9944 when L = 256.

Other maps have other constants (7 for 2(k + ½)/256 − 1, 8 for data in [0, 1)); mixing them up moves a result
by as much as a paper's improvement. The constant is therefore computed here, from the map itself, and nowhere
else.

Continuous data is standardised per channel (per column for vectors). It has no bins, so bits/dim is refused.

One :class:`Transform` is saved with every checkpoint: sampling and decoding need no data.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

LAYOUTS = ("same", "grey", "channels_last")
MOST_LEVELS = 2**16
OFF_LATTICE = 0.01
"""Largest distance from a lattice point, in bins: float32 rounding at 65,536 levels is 0.004 of a bin."""


@dataclass(frozen=True)
class Lattice:
    """The model-space values low + width·k, k = 0 .. count−1, that discrete data can take."""

    low: float
    width: float
    count: int

    def nearest(self, x: Tensor) -> Tensor:
        """Return k of the nearest lattice point (beyond the ends: of the end), shape (*), int64."""
        return ((x - self.low) / self.width).round().clamp(0, self.count - 1).long()

    def values(self, k: Tensor) -> Tensor:
        """Return the float32 model-space values of the indices k, shape (*)."""
        return (k.double().cpu() * self.width + self.low).float().to(k.device)

    def index(self, x: Tensor) -> Tensor:
        """Return k for values x that lie on the lattice, shape (*), int64.

        Raises:
            ValueError: if x holds integers (they are raw data, not model units) or values off the lattice.
        """
        if not x.is_floating_point():
            raise ValueError(f"x holds {x.dtype} values; model units are floats on {self}")
        k = self.nearest(x)
        off = ~(((x - self.low) / self.width - k).abs() <= OFF_LATTICE)
        if bool(off.any()):
            raise ValueError(
                f"{int(off.sum())} of {x.numel()} values are off {self}, the first is {x[off][0].item()!r}"
            )
        return k


@dataclass(frozen=True)
class Transform:
    """The map raw → x of one data set: x = 2k/(L−1) − 1 if discrete, (raw − mean)/std if continuous.

    Attributes:
        shape: one example in model layout, (C, *spatial) or (D,).
        levels: number L of grey levels, 2 .. 65,536, or None for continuous data.
        layout: how the data's own shape differs: "same", "grey" (no channel axis) or "channels_last".
        mean, std: per channel, in the data's units; empty for discrete data.
    """

    shape: tuple[int, ...]
    levels: int | None
    layout: str = "same"
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.layout not in LAYOUTS:
            raise ValueError(f"unknown layout {self.layout!r}; known: {', '.join(LAYOUTS)}")
        if not self.shape or min(self.shape) < 1:
            raise ValueError(f"shape is {self.shape}; one or more positive sizes are needed")
        if (self.layout != "same" and len(self.shape) != 3) or (self.layout == "grey" and self.shape[0] != 1):
            raise ValueError(f"layout {self.layout!r} does not fit the shape {self.shape}")
        if self.levels is not None and not 2 <= self.levels <= MOST_LEVELS:
            raise ValueError(f"levels is {self.levels}; allowed: 2 to {MOST_LEVELS}, or None for continuous data")
        moments = 0 if self.levels is not None else self.shape[0]
        if len(self.mean) != moments or len(self.std) != moments or not all(s > 0 for s in self.std):
            raise ValueError(f"mean and std need {moments} values each, std > 0; given {self.mean} and {self.std}")

    @property
    def raw_shape(self) -> tuple[int, ...]:
        """Shape of one example as the data has it."""
        return {
            "same": self.shape,
            "grey": self.shape[1:],
            "channels_last": (*self.shape[1:], self.shape[0]),
        }[self.layout]

    @property
    def dtype(self) -> np.dtype[Any]:
        """What :meth:`decode` returns: uint8 up to 256 levels, uint16 beyond, float32 for continuous data."""
        if self.levels is None:
            return np.dtype(np.float32)
        return np.dtype(np.uint8 if self.levels <= 256 else np.uint16)

    @property
    def lattice(self) -> Lattice | None:
        """The values that x can take; None for continuous data."""
        return None if self.levels is None else Lattice(-1.0, 2 / (self.levels - 1), self.levels)

    @property
    def clip(self) -> tuple[float, float] | None:
        """The range that a sampler may clip its estimates of x0 to; None for continuous data."""
        return None if self.levels is None else (-1.0, 1.0)

    @property
    def nats_per_dim_offset(self) -> float:
        """What nats/dim in model units lack to nats/dim in the data's units: −log of the mean volume scale.

        log(1/width) for discrete data, the mean of log std for continuous data.
        """
        if self.levels is None:
            return float(np.mean(np.log(self.std)))
        return math.log((self.levels - 1) / 2)

    @property
    def bits_per_dim_offset(self) -> float:
        """log2(1/width): bits/dim = nats/dim / log 2 + this.

        Raises:
            ValueError: for continuous data, whose bits/dim would change with the unit of measurement.
        """
        if self.levels is None:
            raise ValueError("bits/dim is refused: the data is continuous (no bins); use nats/dim")
        return self.nats_per_dim_offset / math.log(2)

    def index(self, x: Tensor) -> Tensor:
        """Return the level k of values x in model units, shape (*), int64.

        Raises:
            ValueError: for continuous data, and for values off the lattice.
        """
        if self.lattice is None:
            raise ValueError("the data is continuous: its values have no lattice index")
        return self.lattice.index(x)

    def encode(self, raw: np.ndarray) -> Tensor:
        """Return model units, float32, shape (*, *shape), of raw data of shape (*, *raw_shape).

        Raises:
            ValueError: if the shape differs, or discrete data is not made of integers 0 .. levels−1.
        """
        self._expect(raw.shape, self.raw_shape)
        if self.levels is None:
            mean, std = self._moments
            x = ((self._to_model(raw).astype(np.float64) - mean) / std).astype(np.float32)
        else:
            if raw.dtype.kind not in "bui":
                raise ValueError(f"raw data has dtype {raw.dtype}; this data has {self.levels} integer levels")
            if raw.size and not 0 <= int(raw.min()) <= int(raw.max()) < self.levels:
                raise ValueError(f"raw values are {raw.min()} to {raw.max()}; allowed: 0 to {self.levels - 1}")
            x = self._looked_up(self._to_model(raw))
        return torch.from_numpy(np.ascontiguousarray(x))

    def decode(self, x: Tensor) -> np.ndarray:
        """Return the data's own layout, dtype and range, shape (*, *raw_shape), of x of shape (*, *shape).

        Discrete data is rounded to the nearest level and clipped to the range.

        Raises:
            ValueError: if the shape differs, or a value is NaN.
        """
        self._expect(tuple(x.shape), self.shape)
        x = x.detach().cpu()
        if bool(x.isnan().any()):
            raise ValueError(f"{int(x.isnan().sum())} of {x.numel()} values to decode are NaN")
        if self.lattice is None:
            mean, std = self._moments
            raw = x.double().numpy() * std + mean
        else:
            raw = self.lattice.nearest(x.float()).numpy()
        return np.ascontiguousarray(self._to_raw(raw).astype(self.dtype))

    def to_dict(self) -> dict[str, Any]:
        """Return what :meth:`from_dict` reads: plain JSON values."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Transform:
        """Return the transform that :meth:`to_dict` wrote.

        Raises:
            ValueError: if a key is missing or unknown, or a value is not allowed.
        """
        names = {field.name for field in fields(cls)}
        if set(record) != names:
            raise ValueError(f"a transform has the keys {sorted(names)}; given {sorted(record)}")
        values: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in record.items()}
        return cls(**values)

    def _looked_up(self, index: np.ndarray) -> np.ndarray:
        # one example at a time: indices of a whole batch, eight bytes each, would leave the processor's caches
        x = np.empty(index.shape, np.float32)
        for place in np.ndindex(index.shape[: -len(self.shape)]):
            np.take(self._table, index[place], out=x[place], mode="clip")
        return x

    @cached_property
    def _table(self) -> np.ndarray:
        # Tabulated in float64 and rounded once, so that equal levels are equal floats on every machine.
        assert self.lattice is not None
        return self.lattice.values(torch.arange(self.lattice.count)).numpy()

    @cached_property
    def _moments(self) -> tuple[np.ndarray, np.ndarray]:
        per_channel = (-1,) + (1,) * (len(self.shape) - 1)
        return np.reshape(self.mean, per_channel), np.reshape(self.std, per_channel)

    def _to_model(self, raw: np.ndarray) -> np.ndarray:
        if self.layout == "grey":
            return np.expand_dims(raw, -3)
        return np.moveaxis(raw, -1, -3) if self.layout == "channels_last" else raw

    def _to_raw(self, x: np.ndarray) -> np.ndarray:
        if self.layout == "grey":
            return np.squeeze(x, -3)
        return np.moveaxis(x, -3, -1) if self.layout == "channels_last" else x

    def _expect(self, given: tuple[int, ...], shape: tuple[int, ...]) -> None:
        if tuple(given[-len(shape) :]) != shape:
            raise ValueError(f"the array has shape {tuple(given)}; its last axes must be {shape}")
