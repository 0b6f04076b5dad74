"""Is a model of `digits` any good? Its samples against the training digits, measured in units of held-out digits.

Raw pixels 0 … 16, 64 numbers an image. Density, coverage and Fréchet distance to the training images are each divided
by the same figure for the 497 held-out images: 1 is as good as real ones. A classifier's confidence would not do: it
does not tell digits from noise.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np

from logsnr.data import load
from logsnr.metrics.frechet import frechet_distance
from logsnr.metrics.neighbours import Neighbourhoods, copies

MOST_COPIES = 0.03


@dataclass(frozen=True)
class DigitsCheck:
    """Ratios to held-out digits (density, coverage: higher is better; frechet: lower) and the share of copies."""

    density: float
    coverage: float
    frechet: float
    copies: float
    samples: int

    def passes(self, density: float, coverage: float, frechet: float) -> bool:
        """True if every figure is on the good side of its bar, and at most 3 % are copies."""
        good = self.density >= density and self.coverage >= coverage and self.frechet <= frechet
        return good and self.copies <= MOST_COPIES

    def record(self) -> dict[str, float]:
        """Plain values."""
        return asdict(self)


def check_digits(images: np.ndarray) -> DigitsCheck:
    """The check of images (N, 8, 8) in 0 … 16."""
    if images.shape[1:] != (8, 8):
        raise ValueError(f"images of shape {images.shape}; allowed: (N, 8, 8) grey levels 0 to 16")
    train, heldout = (
        data.raw(range(len(data))).reshape(len(data), -1) for data in (load("digits"), load("digits", split="test"))
    )
    samples = images.reshape(len(images), -1)
    balls = Neighbourhoods.of(train)
    density, coverage = balls.density_coverage(samples)
    real_density, real_coverage = balls.density_coverage(heldout)
    return DigitsCheck(
        density=density / real_density,
        coverage=coverage / real_coverage,
        frechet=frechet_distance(samples, train) / frechet_distance(heldout, train),
        copies=copies(samples, train, heldout),
        samples=len(samples),
    )
