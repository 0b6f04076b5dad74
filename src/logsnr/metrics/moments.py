"""Mean and covariance of a set of features, in one pass and in any number of parts.

Two sets of n₁ and n₂ rows with means m₁, m₂ and scatters S = Σ (x − m)(x − m)ᵀ make one (Chan, Golub and LeVeque
1979): n = n₁ + n₂, m = m₁ + δ n₂/n, S = S₁ + S₂ + δδᵀ n₁n₂/n with δ = m₂ − m₁. So chunks of a stream, and the parts of
several processes, are added in any order; nothing is lost to the cancellation in E[xxᵀ] − mmᵀ.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import reduce
from operator import add
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from logsnr.files import whole


@dataclass(frozen=True)
class Moments:
    """count: rows seen. mean: (D,), scatter: (D, D), float64. Moments are added: `a + b` is that of both sets."""

    count: int
    mean: np.ndarray
    scatter: np.ndarray

    @classmethod
    def of(cls, x: np.ndarray) -> Moments:
        """The moments of the rows of x (N, D), N >= 1."""
        x = x.astype(np.float64)
        mean = x.mean(0)
        centred = x - mean
        return cls(len(x), mean, centred.T @ centred)

    @classmethod
    def over(cls, chunks: Iterable[np.ndarray]) -> Moments:
        """Those of a stream of chunks (n, D). ValueError for an empty one."""
        parts = (cls.of(chunk) for chunk in chunks if len(chunk))
        first = next(parts, None)
        if first is None:
            raise ValueError("0 examples; allowed: at least 1")
        return reduce(add, parts, first)

    def __add__(self, other: Moments) -> Moments:
        if self.mean.shape != other.mean.shape:
            raise ValueError(f"moments of {len(self.mean)} and {len(other.mean)} features; allowed: the same number")
        count, shift = self.count + other.count, other.mean - self.mean
        scatter = self.scatter + other.scatter + np.outer(shift, shift) * (self.count * other.count / count)
        return Moments(count, self.mean + shift * (other.count / count), scatter)

    @property
    def covariance(self) -> np.ndarray:
        """(D, D), with divisor N − 1. ValueError for fewer than two rows."""
        if self.count < 2:
            raise ValueError(f"{self.count} examples; allowed: at least 2")
        return self.scatter / (self.count - 1)


def save(path: Path, moments: Moments, facts: dict[str, str]) -> None:
    """Write moments to a safetensors file, with what they are of as its metadata."""
    tensors = {"count": np.array([moments.count]), "mean": moments.mean, "scatter": moments.scatter}
    with whole(path) as fresh:
        save_file(tensors, fresh, metadata=facts)


def load(path: Path) -> tuple[Moments, dict[str, str]]:
    """The moments and metadata of a file that `save` wrote. ValueError in one line for any other file."""
    try:
        with safe_open(path, "numpy") as file:
            count, mean, scatter = (file.get_tensor(name) for name in ("count", "mean", "scatter"))
            facts = dict(file.metadata() or {})
    except (SafetensorError, FileNotFoundError) as error:
        raise ValueError(f"{path} is no file of moments (count, mean, scatter): {error}") from None
    if count.shape != (1,) or mean.ndim != 1 or scatter.shape != (*mean.shape, *mean.shape):
        raise ValueError(f"{path} has count {count.shape}, mean {mean.shape}, scatter {scatter.shape}; D, D x D needed")
    return Moments(int(count[0]), mean.astype(np.float64), scatter.astype(np.float64)), facts
