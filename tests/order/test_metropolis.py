"""Metropolis-adjusted Langevin dynamics: detailed balance to the last digits, and the law it keeps at large steps."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from logsnr.data.toys import TOYS, gaussian
from logsnr.draws import Draws
from logsnr.kernels import Normal
from logsnr.samplers import langevin_step, metropolis_step

torch.set_num_threads(1)
LAW = TOYS["two"]()
DATA = torch.ones((), dtype=torch.float64), torch.zeros((), dtype=torch.float64)
EPSILON = torch.tensor(0.03, dtype=torch.float64)


def log_prob(x: Tensor) -> Tensor:
    return LAW.log_prob(x, *DATA) + 3.0  # a constant does not matter


def score(x: Tensor) -> Tensor:
    return LAW.score(x, *DATA)


def log_flow(x: Tensor, y: Tensor) -> Tensor:
    """log p(x) q(y|x), from the densities themselves."""
    return LAW.log_prob(x, *DATA) + Normal(x + EPSILON * score(x), (2 * EPSILON).log()).log_prob(y)


def test_every_pair_is_in_detailed_balance() -> None:
    """Accepted up to the uniform number p(y) q(x|y)/(p(x) q(y|x)) and not beyond: the law is invariant."""
    x = LAW.sample(200)
    z = Draws(0, 0, torch.arange(200), 200).normal("z", x)
    y, _ = langevin_step(x, score(x), EPSILON, z)
    ratio = (log_flow(y, x) - log_flow(x, y)).exp()
    assert (ratio < 0.99).sum() > 20, "or nothing is tested"
    for uniform, expected in ((ratio * (1 - 1e-9), True), (ratio * (1 + 1e-9), False)):
        after, moved = metropolis_step(x, log_prob, score, EPSILON, z, uniform)
        rejectable = ratio < 1
        assert (moved[rejectable] == expected).all()
        assert torch.equal(after, torch.where(moved.unsqueeze(1), y, x))
    assert metropolis_step(x, log_prob, score, EPSILON, z, torch.full((200,), 1 - 1e-12).double())[1][ratio > 1].all()


@pytest.mark.parametrize("step_size", [0.3, 1.5])
def test_the_variance_is_right_at_steps_where_plain_langevin_has_it_wrong(step_size: float) -> None:
    """N(0, 1): 1/(1 − ε/2) without the test, 1 with it, at 4 standard errors. Each example has its own step here."""
    count, law = 20_000, gaussian(torch.zeros(1), 1.0)
    size = torch.full((count,), step_size, dtype=torch.float64)
    plain = exact = 3 * law.sample(count, seed=1)
    for step in range(40):
        draws = Draws(0, step, torch.arange(count), count)
        z = draws.normal("z", plain)
        plain, _ = langevin_step(plain, -plain, size, z)
        exact, _ = metropolis_step(
            exact, lambda x: -0.5 * (x**2).sum(1), lambda x: -x, size, z, draws.uniform("accept")
        )
    error = 4 * (2 / count) ** 0.5
    biased = 1 / (1 - step_size / 2)
    assert float(plain.var()) == pytest.approx(biased, rel=error)
    assert float(exact.var()) == pytest.approx(1.0, abs=error)
    assert biased > 1 + 2 * error
