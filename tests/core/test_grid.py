"""Laws of a grid: length, direction, ends and knots, for every number of steps."""

from __future__ import annotations

import math

import pytest
import torch

from logsnr.betas import linear
from logsnr.denoiser import LABELS
from logsnr.kernels import transition_log_var
from logsnr.level import Level
from logsnr.path import ENDS, SPACINGS, Path
from logsnr.scales import SCALES, vp
from logsnr.schedules import SCHEDULES, BetaLinear

TABLE = Path(SCHEDULES["beta_table"](), vp)
ALL = range(1, 1001)
BISECTED = ("log_snr", "rho", "auto")
SOME = [*range(1, 13), *range(37, 1001, 41), 998, 999, 1000]  # spacing in γ bisects: a second for each sixty grids


def check(path: Path, steps: int, end: str, levels: Level, *, spacing: str = "uniform") -> None:
    assert len(levels) == steps + 1
    assert (levels.gamma[:-1] > levels.gamma[1:]).all()
    assert torch.equal(levels.t[0], path.highest.t)
    if end == "clean":
        assert levels[-1].is_clean
        levels = levels[:-1]
    if len(levels) > 1 and (spacing, end) == ("auto", "clean"):  # its last step may be long
        assert levels.gamma[-1] >= path.lowest.gamma
    elif len(levels) > 1:
        assert torch.equal(levels.t[-1], path.lowest.t)
    assert levels.gamma[1:].isfinite().all()
    assert levels.gamma[0].isfinite() == path.highest.gamma.isfinite()


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("spacing", SPACINGS)
def test_grids_of_a_table_are_distinct_knots(spacing: str, end: str) -> None:
    own = TABLE.at(torch.arange(1, 1001, dtype=torch.float64) / 1000)
    for steps in SOME if spacing in BISECTED else ALL:
        if steps == 1000 and end == "lowest":
            continue
        levels = TABLE.grid(steps, end, spacing)
        check(TABLE, steps, end, levels, spacing=spacing)
        finite = levels.t[levels.t > 0]
        knots = (finite * 1000).round().long()
        assert torch.equal(knots.double() / 1000, finite)
        assert len(set(knots.tolist())) == len(finite)
        assert torch.equal(levels.gamma[: len(finite)], own.gamma[knots - 1])


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("spacing", SPACINGS)
def test_grids_of_a_curve(spacing: str, end: str) -> None:
    path = Path(BetaLinear(), vp)
    for steps in SOME if spacing in BISECTED else ALL:
        check(path, steps, end, path.grid(steps, end, spacing), spacing=spacing)


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("spacing", SPACINGS)
def test_grids_of_every_path(path: Path, spacing: str, end: str) -> None:
    most = path.schedule.steps or 50
    if spacing in ("log_snr", "rho") and not path.highest.gamma.isfinite():
        with pytest.raises(ValueError, match="allowed: finite ends"):
            path.grid(7, end, spacing)
        return
    for steps in (1, 2, 7, min(50, most) - (end == "lowest")):
        check(path, steps, end, path.grid(steps, end, spacing), spacing=spacing)


def test_uniform_steps_are_equal_in_time_and_quadratic_in_its_root() -> None:
    path, u = Path(BetaLinear(t_min=0.01), vp), torch.linspace(1, 0, 11, dtype=torch.float64)
    assert torch.allclose(path.grid(10, "lowest").t, 0.01 + 0.99 * u, atol=1e-15)
    assert torch.allclose(path.grid(10, "lowest", "quadratic").t, 0.01 + 0.99 * u**2, atol=1e-15)


def test_log_snr_steps_are_equal_in_gamma(path: Path) -> None:
    if path.schedule.steps is None and path.highest.gamma.isfinite():
        gamma = path.grid(20, "lowest", "log_snr").gamma
        assert torch.allclose(gamma.diff(), (gamma[-1] - gamma[0]).expand(20) / 20, atol=1e-6)


def test_auto_ends_above_the_lowest_level_for_few_steps_only() -> None:
    """λ of the last level before x̂0 is 1.4 log S − 0.2 for data of deviation 0.7, until that is all the path has."""
    path = Path(BetaLinear(), vp)
    bottom = -0.5 * float(path.lowest.gamma)
    for steps in (8, 20, 1000):
        last = -0.5 * float(path.grid(steps, "clean", "auto").gamma[-2])
        assert last == pytest.approx(min(bottom, 1.4 * math.log(steps) - 0.2), abs=1e-6)
    wide = -0.5 * float(path.grid(8, "clean", "auto", sigma_data=1.4).gamma[-2])
    assert wide == pytest.approx(1.4 * math.log(8) - 0.2 - math.log(2), abs=1e-6)


def test_auto_steps_are_shortest_where_data_is_decided() -> None:
    """Steps of λ are inverse to the density that is stated, its peak at σ/α = 2.4 σ_d, its widths 1.2 and 2."""
    gamma = Path(BetaLinear(), vp).grid(200, "clean", "auto").gamma[:-1]
    middles, lengths = -0.25 * (gamma[1:] + gamma[:-1]), -0.5 * gamma.diff()
    density = 1 / lengths
    away = middles + math.log(2.4 * 0.7)
    wanted = 1 / (1 + (away / torch.where(away < 0, 1.2, 2.0)) ** 2)
    inside = away.abs() > lengths  # a step over the centre has both widths
    ratio = (density / wanted)[inside]
    assert float(ratio.max() / ratio.min()) < 1.05


def test_the_whole_chain_is_the_table() -> None:
    for spacing in SPACINGS:
        assert torch.equal(TABLE.grid(1000, "clean", spacing).t[:-1], torch.arange(1000, 0, -1).double() / 1000)


def test_quadratic_steps_that_would_share_a_knot_are_moved_to_the_next() -> None:
    knots = (TABLE.grid(100, "clean", "quadratic").t[:-1] * 1000).round().long().flip(0).tolist()
    wanted = [round(1 + 999 * (i / 99) ** 2) for i in range(100)]
    repaired, last = [], 0
    for knot in wanted:
        last = max(knot, last + 1)
        repaired.append(last)
    assert knots == repaired
    assert len(set(wanted)) < 100


@pytest.mark.parametrize(
    ("steps", "end", "spacing", "message"),
    [
        (1001, "clean", "uniform", "1001 steps to the clean level; allowed: 1 to 1000"),
        (1000, "lowest", "uniform", "allowed: 1 to 999"),
        (0, "clean", "uniform", "0 steps"),
        (-3, "clean", "uniform", "-3 steps"),
        (10, "clena", "uniform", "known: clean, lowest"),
        (10, "clean", "leading", "known: uniform, quadratic, log_snr"),
    ],
)
def test_impossible_grids_are_refused(steps: int, end: str, spacing: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TABLE.grid(steps, end, spacing)


def test_a_curve_has_no_most_steps() -> None:
    assert len(Path(BetaLinear(), vp).grid(20_000)) == 20_001
    assert math.isinf(Path(BetaLinear(), vp).grid(1).gamma[-1])


def test_sections_have_their_steps_counted_from_the_data() -> None:
    levels = TABLE.grid("10,15,20")
    assert len(levels) == 46
    assert levels[-1].is_clean
    assert torch.equal(levels.t[0], TABLE.highest.t)
    knots = (levels.t[:-1] * 1000).round().long()
    assert torch.equal(knots.double() / 1000, levels.t[:-1])
    assert (knots.diff() < 0).all()
    third = torch.div(knots - 1, 1000 / 3, rounding_mode="floor").long()
    assert torch.bincount(third).tolist() == [10, 15, 20]
    ends = TABLE.grid("10,15,20", end="lowest")
    assert len(ends) == 46
    assert torch.equal(ends.t[-1], TABLE.lowest.t)
    curve = Path(BetaLinear(t_min=0.001), vp).grid("2,4").t
    assert curve.tolist() == pytest.approx([1, 0.875, 0.75, 0.625, 0.5, 0.25, 0])


def test_ddim_strides_are_equal_and_begin_at_the_noise() -> None:
    assert (TABLE.grid("ddim25").t[:-1] * 1000).round().tolist() == list(range(1000, 0, -40))
    assert (TABLE.grid("ddim1000").t * 1000).round().tolist() == list(range(1000, -1, -1))
    assert len(TABLE.grid("ddim333")) == 334
    assert Path(BetaLinear(), vp).grid("ddim4").t.tolist() == [1, 0.75, 0.5, 0.25, 0]


def test_a_strided_chain_has_its_own_betas_and_tells_the_network_the_original_t() -> None:
    """I5: β̂_i = 1 − ᾱ_{S_i}/ᾱ_{S_{i−1}}, where the β of the whole chain would leave most of the noise out."""
    levels = TABLE.grid("ddim50", "lowest")
    place = (levels.t * 1000).round().long() - 1
    beta = linear(1000)
    bar = (1 - beta).cumprod(0)[place]
    found = transition_log_var(levels[:-1], levels[1:]).exp()
    assert torch.allclose(found, 1 - bar[:-1] / bar[1:], rtol=1e-9)
    assert (found > 10 * beta[place[:-1]]).sum() > 40
    assert torch.equal(LABELS["index"](TABLE, levels), place.double())


def test_a_number_as_text_is_that_number() -> None:
    for spacing in SPACINGS:
        assert torch.equal(TABLE.grid("25", spacing=spacing).t, TABLE.grid(25, spacing=spacing).t)


@pytest.mark.parametrize(
    ("steps", "spacing", "message"),
    [
        ("10,", "uniform", "steps '10,'; allowed: a number, counts of equal sections as 10,15,20, or ddim25"),
        ("ddim", "uniform", "steps 'ddim'; allowed"),
        ("ddim2,3", "uniform", "allowed: a number"),
        ("-4", "uniform", "steps '-4'; allowed"),
        ("0,5", "uniform", "0,5 steps"),
        ("ddim1001", "uniform", "ddim1001 steps to the clean level; allowed: 1 to 1000"),
        ("400,10,10", "uniform", "a section of 400 steps has 333 levels"),
        ("10,10", "quadratic", "steps '10,10' with spacing 'quadratic'; allowed: spacing uniform"),
    ],
)
def test_impossible_sections_are_refused(steps: str, spacing: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TABLE.grid(steps, "clean", spacing)


@pytest.mark.parametrize("steps", [20, 130, 1000])
def test_auto_from_pure_noise_has_it_once(steps: int) -> None:
    """Beyond γ = 60 times would no longer be distinct, and a solver would divide 0 by 0."""
    gamma = Path(SCHEDULES["straight"](), SCALES["straight"]).grid(steps, "clean", "auto").gamma[:-1]
    assert gamma[0] == math.inf
    assert (gamma[1:] < 60.001).all()
    assert (gamma.diff() < 0).all()
