"""Schedules made of densities, and what the best of them does to the variance of the continuous bound."""

from __future__ import annotations

import math

import pytest
import torch

from logsnr import Linear, Path, vp
from logsnr.data.toys import gaussian
from logsnr.draws import Draws
from logsnr.likelihood import fitted_schedule, vlb_inf
from logsnr.likelihood.continuous import UNIFORM_SHARE
from logsnr.oracles import Oracle
from logsnr.run.fit import variances
from logsnr.schedules import Cosine, Fitted, of_density

EDGES = torch.tensor([-6.0, -2.0, 0.0, 1.0, 5.0], dtype=torch.float64)
DENSITY = torch.tensor([1.0, 4.0, 2.0, 0.5], dtype=torch.float64)


def test_levels_at_uniform_times_have_the_density() -> None:
    schedule = of_density(EDGES, DENSITY)
    t = (torch.arange(100_000, dtype=torch.float64) + 0.5) / 100_000
    found = torch.histc(schedule(t), bins=11, min=-6, max=5)  # of unit width
    each = torch.tensor([1.0] * 4 + [4.0] * 2 + [2.0] + [0.5] * 4, dtype=torch.float64)
    assert torch.allclose(found / 100_000, each / each.sum(), atol=2e-4)
    assert schedule(torch.tensor([0.0, 1.0]).double()).tolist() == [-6.0, 5.0]
    slope = torch.func.jvp(schedule, (t[::1000],), (torch.ones_like(t[::1000]),))[1]
    place = (torch.searchsorted(EDGES, schedule(t[::1000])) - 1).clamp(0, 3)
    assert torch.allclose(1 / slope, (DENSITY / each.sum())[place], rtol=1e-9)


def test_knots_that_make_no_schedule_are_refused() -> None:
    for times, gammas in (([0, 1], [1, 0]), ([0, 0.5], [0, 1]), ([0, 1], [0, math.inf]), ([0, 0.5, 1], [0, 1])):
        with pytest.raises(ValueError, match="allowed"):
            Fitted(times, gammas)


def test_a_known_integrand_is_fitted_and_no_schedule_has_less_variance() -> None:
    """h = e^{γ/2}·(1 ± 0.3): the density is ∝ e^{γ/2}, at which one draw's variance is that of the noise alone."""
    random = torch.Generator().manual_seed(0)
    gamma = -6 + 11 * torch.rand(200_000, generator=random, dtype=torch.float64)
    noise = 1 + 0.3 * torch.randn(200_000, generator=random, dtype=torch.float64)
    nats = 11 * torch.exp(gamma / 2) * noise
    schedule = fitted_schedule(gamma, nats, -6.0, 5.0)
    t = torch.rand(400_000, generator=random, dtype=torch.float64)
    level, slope = torch.func.jvp(schedule, (t,), (torch.ones_like(t),))
    one = torch.exp(level / 2) * slope * (1 + 0.3 * torch.randn(400_000, generator=random, dtype=torch.float64))
    truth = 2 * (math.exp(2.5) - math.exp(-3))
    assert abs(float(one.mean()) - truth) < 4 * float(one.std()) / math.sqrt(len(one))
    assert float(one.std()) / truth < 0.36  # 0.3 is the least; a tenth of the draws are uniform
    assert float(nats.std()) / truth > 3 * float(one.std()) / truth
    assert float(slope.max()) < 11 / UNIFORM_SHARE + 1e-9
    with pytest.raises(ValueError, match="10 draws for 64 bins"):
        fitted_schedule(gamma[:10], nats[:10], -6.0, 5.0)


def exponential(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Linear draws of h = e^{γ/2} (1 + √½ n) on [−6, 5]: E h² = 3/2 e^γ."""
    random = torch.Generator().manual_seed(seed)
    gamma = -6 + 11 * torch.rand(count, generator=random, dtype=torch.float64)
    noise = 1 + math.sqrt(0.5) * torch.randn(count, generator=random, dtype=torch.float64)
    return gamma, 11 * torch.exp(gamma / 2) * noise


def second_moment(schedule: Fitted) -> float:
    """E of the square of one draw of `exponential` under a schedule: ∫ E[h²|γ] γ′ dγ in closed form."""
    slope = schedule.gammas.diff() / schedule.times.diff()
    return float((1.5 * schedule.gammas.exp().diff() * slope).sum())


@pytest.mark.parametrize("count", [64, 128, 256])
def test_few_draws_with_empty_bins_are_still_better_than_linear_times(count: int) -> None:
    linear = second_moment(Fitted([0, 1], [-6, 5]))
    found = [second_moment(fitted_schedule(*exponential(count, seed), -6.0, 5.0)) for seed in range(40)]
    assert sum(found) / 40 < 0.6 * linear
    assert count < 128 or max(found) < linear  # of 64 draws, one a bin, one fit in forty is worse than none


def test_the_variance_that_is_reported_is_that_of_other_draws() -> None:
    mean, path = 2 * (math.exp(2.5) - math.exp(-3)), Path(Linear(-6, 5), vp)
    promised, kept = [], []
    for seed in range(200):
        gamma, nats = exponential(256, seed)
        said = variances(path, gamma, nats)
        assert said["own"] == pytest.approx(said["linear"])  # the path's own times are linear
        promised.append(said["fitted"])
        kept.append(second_moment(fitted_schedule(gamma[::2], nats[::2], -6.0, 5.0)) - mean**2)
    spread = torch.tensor(promised).std() / math.sqrt(200)
    # the square of the pilot's own mean is too large by the variance of that mean
    assert abs(sum(promised) / 200 - sum(kept) / 200 + 11 * 1.5 * math.exp(5) / 256 - mean**2 / 256) < 3 * spread


def test_times_change_the_variance_of_vlb_inf_and_not_its_mean() -> None:
    of = gaussian(torch.tensor([0.5, -0.5]), torch.tensor([0.25, 0.04]))
    schedule, count = Cosine(max_log_snr=8.0), 60_000
    path = Path(schedule, vp)
    x0, draws = of.sample(count, 1), Draws(0, 0, torch.arange(count), count)
    pilot = vlb_inf(path, "small", None).estimate(Oracle(of), x0, Draws(9, 0, draws.index, count))
    fitted = fitted_schedule(pilot.gamma[:, 0], pilot.nats[:, 0], -8.0, 8.0)
    knots = list(zip(fitted.times.tolist(), fitted.gammas.tolist(), strict=True))
    found = {
        times: vlb_inf(path, "small", None, times=times, knots=knots).estimate(Oracle(of), x0, draws).parts["diffusion"]
        for times in ("linear", "own", "fitted")
    }
    for times in ("own", "fitted"):
        gap = found[times] - found["linear"]
        assert abs(float(gap.mean())) < 3 * float(gap.std()) / math.sqrt(count)
    assert float(found["fitted"].var()) < 0.6 * float(found["linear"].var())
    assert float(found["fitted"].var()) < float(found["own"].var())


def test_own_times_of_a_table_are_refused() -> None:
    from logsnr import betas, table_of_betas

    path = Path(table_of_betas(betas.linear(50)), vp)
    with pytest.raises(ValueError, match="times 'own' of vlb_inf"):
        vlb_inf(path, "small", None, times="own")
    assert vlb_inf(path, "small", None).name == "vlb(inf)"
    assert isinstance(vlb_inf(path, "small", None).objective.path.schedule, Linear)
