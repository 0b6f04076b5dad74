"""Level and its broadcasting."""

from __future__ import annotations

import math

import pytest
import torch

from logsnr.level import Level, clean, over
from logsnr.path import Path
from logsnr.scales import vp
from logsnr.schedules import Linear

PATH = Path(Linear(-8, 8), vp)


def test_a_value_for_each_example_multiplies_whole_examples() -> None:
    value = torch.tensor([2.0, 3.0, 5.0], dtype=torch.float64)
    for shape in [(3,), (3, 3), (3, 1, 3, 3)]:
        x = torch.ones(shape)
        for i, row in enumerate(over(value, x) * x):
            assert (row == value[i]).all()


def test_over_casts_once_to_the_dtype_of_the_data() -> None:
    x = torch.zeros(2, 3, dtype=torch.float32)
    assert over(torch.tensor(1 / 3, dtype=torch.float64), x).dtype == torch.float32
    assert over(torch.tensor([1 / 3] * 2, dtype=torch.float64), x).dtype == torch.float32


@pytest.mark.parametrize(("value", "data"), [((3,), (2, 3)), ((2, 1), (2, 3)), ((2,), ())])
def test_over_refuses_shapes_that_would_broadcast_silently(value: tuple[int, ...], data: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"allowed: \(\) or \(B,\)"):
        over(torch.ones(value), torch.ones(data))


def test_perturb_is_alpha_x0_plus_sigma_eps_of_each_example() -> None:
    level = PATH.at(torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64))
    x0, eps = torch.randn(2, 3, 4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    x = level.perturb(x0, eps)
    for i in range(3):
        expected = math.exp(level.log_alpha[i]) * x0[i] + math.exp(level.log_sigma[i]) * eps[i]
        assert torch.allclose(x[i], expected, rtol=0, atol=1e-15)
    assert torch.equal(PATH.perturb(x0, eps, level.t), x)


def test_raw_integers_are_not_data() -> None:
    with pytest.raises(ValueError, match="int64"):
        PATH.at(0.5).perturb(torch.zeros(2, dtype=torch.int64), torch.zeros(2))


def test_log_snr_is_log_alpha_squared_over_sigma_squared() -> None:
    level = PATH.at(0.25)
    assert float(level.log_snr) == pytest.approx(4.0, abs=1e-14)
    assert float((level.alpha / level.sigma).log() * 2) == pytest.approx(4.0, abs=1e-14)


def test_the_clean_level_is_x0_itself() -> None:
    level, x0 = clean(), torch.tensor([1.5, -2.5])
    assert level.is_clean
    assert (float(level.t), float(level.alpha), float(level.sigma)) == (0, 1, 0)
    assert torch.equal(level.perturb(x0, torch.full((2,), 7.0)), x0)


def test_is_clean_only_when_every_entry_is() -> None:
    levels = PATH.at(torch.tensor([0.5, 0.2], dtype=torch.float64)).then(clean())
    assert [level.is_clean for level in levels] == [False, False, True]
    assert not levels.is_clean
    assert levels[2:].is_clean


def test_levels_are_a_sequence() -> None:
    t = torch.tensor([0.9, 0.4], dtype=torch.float64)
    levels = PATH.at(t)
    assert len(levels) == 2
    assert [float(level.t) for level in levels] == t.tolist()
    assert levels[torch.tensor([1, 1, 0])].t.tolist() == [0.4, 0.4, 0.9]
    repeated = levels[1].repeat(3)
    assert isinstance(repeated, Level)
    assert torch.equal(repeated.log_sigma, levels.log_sigma[1].expand(3))
