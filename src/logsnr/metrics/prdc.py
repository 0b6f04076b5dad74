"""Precision and recall (Kynkäänniemi et al. 2019), density and coverage (Naeem et al. 2020).

With the ball of every example that reaches its k-th nearest neighbour in its own set:

    precision   share of samples in some ball of a real example
    recall      share of real examples in some ball of a sample
    density, coverage   see `neighbours`

Precision and recall take k = 3, density and coverage k = 5, as their papers do. Precision and density are means over
samples, recall and coverage over real examples: errors are over what the mean is over, the other set given.
"""

from __future__ import annotations

from logsnr.metrics.bootstrap import mean_figure, share_figure
from logsnr.metrics.comparison import Comparison, Measurement
from logsnr.metrics.neighbours import Neighbourhoods

K_PRECISION, K_DENSITY = 3, 5
MOST = 10_000
"""Examples of either set, as in the papers: all four figures depend on the sizes of the sets."""


def prdc(compared: Comparison) -> Measurement:
    """The four figures of the features. ValueError for five real examples or three samples, and fewer."""
    x, y = (each.at_most(MOST, compared.seed).features for each in (compared.samples, compared.real))
    if len(x) <= K_PRECISION:
        raise ValueError(f"prdc of {len(x)} samples; allowed: more than {K_PRECISION}")
    close, wide = Neighbourhoods.nested(y, (K_PRECISION, K_DENSITY))
    balls, reached = wide.hits(x)
    precise = close.hits(x)[0] > 0
    recalled = Neighbourhoods.of(x, K_PRECISION).hits(y)[0] > 0
    figures = {name: share_figure(hits) for name, hits in (("precision", precise), ("recall", recalled))}
    figures["density"] = mean_figure(balls / K_DENSITY, sets=compared.bootstrap, seed=compared.seed)
    figures["coverage"] = share_figure(reached)
    facts = {
        "samples": len(x),
        "reference_samples": len(y),
        "k": {"precision, recall": K_PRECISION, "density, coverage": K_DENSITY},
        "errors_over": {"precision, density": "samples", "recall, coverage": "reference examples"},
    }
    return Measurement(figures, facts)
