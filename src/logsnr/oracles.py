"""Exact denoisers: models without a network, for data whose noisy law is a closed form.

With an oracle in place of a trained network, whatever error a sampler or a likelihood shows is its own.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from logsnr.data.toys import Mixture
from logsnr.level import Level, over
from logsnr.prediction import Prediction, v


@dataclass(frozen=True)
class Oracle:
    """E[x0 | x_t] of a known law (Gaussian, mixture, one point, a finite data set) at any level of any path.

    Computed in float64 on the CPU whatever the dtype and device of x; the answer is held as v, which is well
    conditioned at both ends.
    """

    law: Mixture

    def __call__(self, x: Tensor, level: Level, **condition: Tensor) -> Prediction:
        z, alpha, sigma = x.cpu().double(), level.alpha, level.sigma
        x0 = self.law.x0_mean(z, alpha, sigma)
        eps = -over(sigma, z) * self.law.score(z, alpha, sigma)
        value = over(alpha, z) * eps - over(sigma, z) * x0
        return Prediction(x, level, v(level), value.to(x))
