"""The terms of the variational bound of a discrete chain, each from one reading of the model (D3; DDPM, eq. 5).

    −log p(x0) <= KL(q(x_1|x0) ‖ p(x_1)) + Σ_{t → s} L_{t→s} − log p(x0 | x_last)
    L_{t→s}     = KL(q(x_s|x_t, x0) ‖ p(x_s|x_t))

Objectives draw one of them a step, likelihoods add all of them up; both call the functions below.
"""

from __future__ import annotations

import torch
from torch import Tensor

from logsnr.data.transform import Lattice
from logsnr.decoders import Decoder, discretised_gaussian, gaussian_density
from logsnr.kernels import Floored, Normal, Rule, floored, named_rule, posterior, reverse
from logsnr.level import Level, over
from logsnr.prediction import Prediction


def step_nats(prediction: Prediction, x0: Tensor, s: Level, rule: Rule | Floored, decoder: Decoder) -> Tensor:
    """L_{t→s} for the prediction's level t, or −log p(x0|x_t) where s is clean; in nats, (B,).

    prediction: at x_t = α_t x0 + σ_t ε, (B, *). s: (B,). rule: floored where an s is clean.
    """
    p, q = reverse(prediction, s, rule), posterior(prediction.x, x0, prediction.level, s)
    last = torch.isneginf(s.gamma).to(x0.device)
    # both branches are evaluated for every row; the one not taken is kept where its gradient is finite
    row = over(last, x0).bool()
    decoded = Normal(torch.where(row, p.mean, x0), torch.where(row, p.log_var, 0.0))
    # into the clean level the posterior is a point, of infinite KL: the decoder's term stands in its place
    return torch.where(last, -decoder(x0, decoded), q.kl(p))


def last_step(grid: Level, variance: str, lattice: Lattice | None) -> tuple[Floored, Decoder]:
    """The reverse variance of that name on a grid that ends clean, and the decoder that the data asks for.

    Discrete data: the discretised Gaussian with DDPM's floor as its variance. Continuous data: the density, whose
    variance is σ²/α² of the last finite level, what x_t leaves open of x0; DDPM's floor shrinks with the step and
    would make the bound grow as the grid is refined. ValueError for an unknown name or a grid of fewer than two steps.
    """
    rule = floored(variance, grid)
    if lattice is not None:
        return rule, discretised_gaussian(lattice)
    last = grid[~torch.isneginf(grid.gamma)][-1]
    return Floored(named_rule(variance), last.gamma), gaussian_density
