"""Are samples like the data? Figures of them against training examples, in units of held-out examples.

Density, coverage and Fréchet distance to the training examples are each divided by the same figure of held-out
examples: 1 is as good as real ones.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np

from logsnr.metrics.frechet import frechet_distance
from logsnr.metrics.neighbours import Neighbourhoods, copies

MOST_COPIES = 0.03


@dataclass(frozen=True)
class Likeness:
    """Ratios to held-out examples (density, coverage: higher is better; frechet: lower) and the share of copies."""

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


def likeness(samples: np.ndarray, train: np.ndarray, heldout: np.ndarray) -> Likeness:
    """The figures of samples (M, *) beside a training (N, *) and a held-out set (K, *), on the numbers as they are."""
    samples, train, heldout = (x.reshape(len(x), -1) for x in (samples, train, heldout))
    balls = Neighbourhoods.of(train)
    density, coverage = balls.density_coverage(samples)
    real_density, real_coverage = balls.density_coverage(heldout)
    return Likeness(
        density=density / real_density,
        coverage=coverage / real_coverage,
        frechet=frechet_distance(samples, train) / frechet_distance(heldout, train),
        copies=copies(samples, train, heldout),
        samples=len(samples),
    )
