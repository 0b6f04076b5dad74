"""Learning-rate laws against their formulas, the decay groups, and the optimiser's state by name."""

from __future__ import annotations

import itertools
import math
from functools import partial

import pytest
import torch
from torch import nn

from logsnr.train.optim import DECAYS, adamw, learning_rate, load_optimizer, optimizer_tensors


def test_warm_up_is_linear_and_reaches_the_base_at_its_last_step() -> None:
    rates = [learning_rate(step, base=0.1, warmup_steps=4) for step in range(6)]
    assert rates == pytest.approx([0.025, 0.05, 0.075, 0.1, 0.1, 0.1], rel=1e-15)


@pytest.mark.parametrize("decay", ["cosine", "linear"])
def test_falling_laws_start_at_the_base_and_end_at_zero_when_the_run_is_over(decay: str) -> None:
    rates = [learning_rate(s, base=2.0, warmup_steps=10, total_steps=110, decay=decay) for s in range(10, 112)]
    assert rates[0] == 2.0
    assert rates[50] == pytest.approx(1.0, rel=1e-15)
    assert rates[100] == rates[101] == 0.0
    assert all(a > b for a, b in itertools.pairwise(rates[:101]))


def test_cosine_is_half_of_one_plus_cosine() -> None:
    for step in range(21):
        expected = 0.5 * (1 + math.cos(math.pi * step / 20))
        assert learning_rate(step, base=1.0, total_steps=20, decay="cosine") == pytest.approx(expected)


@pytest.mark.parametrize("decay", ["constant", "linear"])
def test_the_cooldown_multiplies_every_law_by_what_is_left_of_the_time(decay: str) -> None:
    law = partial(learning_rate, base=2.0, warmup_steps=10, total_steps=110, decay=decay)
    for step in (3, 10, 60):
        rates = [law(step, spent, cooldown=0.4) for spent in (0.0, 0.6, 0.7, 0.9, 1.0, 1.2)]
        assert rates == pytest.approx([law(step) * left for left in (1.0, 1.0, 0.75, 0.25, 0.0, 0.0)], rel=1e-12)
        assert law(step, 0.99, cooldown=0.0) == law(step)
    assert law(88, 0.5, cooldown=0.4) == pytest.approx(law(88) * 0.5, rel=1e-12)  # 88 of 110 steps: 0.2 are left


def test_every_law_runs_from_one_to_its_end_and_unknown_ones_are_named() -> None:
    assert [law(0.0) for law in DECAYS.values()] == [1.0, 1.0, 1.0]
    assert [law(1.0) for law in DECAYS.values()] == [1.0, 0.0, 0.0]
    with pytest.raises(ValueError, match="'cosin'; known: constant, cosine, linear"):
        learning_rate(0, base=1.0, decay="cosin")
    with pytest.raises(ValueError, match="needs total_steps > warmup_steps 5, not 5"):
        learning_rate(5, base=1.0, warmup_steps=5, total_steps=5, decay="linear")


def test_only_matrices_decay() -> None:
    """With zero gradients AdamW is p ← (1 − lr λ) p for what decays, and nothing for the rest."""
    model = nn.Sequential(nn.Linear(3, 3), nn.LayerNorm(3))
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer = adamw(model, lr=0.1, weight_decay=0.5)
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    optimizer.step()
    for name, p in model.named_parameters():
        factor = 0.95 if name == "0.weight" else 1.0
        assert torch.allclose(p, factor * before[name], rtol=1e-6)


def test_first_step_moves_by_the_learning_rate_against_the_sign_of_the_gradient() -> None:
    model = nn.Linear(4, 2)
    before = model.weight.detach().clone()
    optimizer = adamw(model, lr=0.01, eps=0.0)
    for p in model.parameters():
        p.grad = torch.randn_like(p)
    optimizer.step()
    assert torch.allclose(model.weight, before - 0.01 * model.weight.grad.sign(), atol=1e-7)


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: range) -> None:
    for step in steps:
        x = torch.randn(4, 3, generator=torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        model(x).square().sum().backward()
        optimizer.step()


def test_state_by_name_restores_the_very_same_steps_in_another_order_of_groups() -> None:
    torch.manual_seed(0)
    one, two = (nn.Sequential(nn.Linear(3, 3), nn.LayerNorm(3), nn.Linear(3, 1)) for _ in range(2))
    unused = nn.Parameter(torch.ones(2))
    one.register_parameter("unused", unused)
    optimizer = adamw(one, lr=0.01)
    train(one, optimizer, range(3))
    tensors = optimizer_tensors(optimizer, nn.ModuleDict({"module": one}))
    entries = {f"{e}.{p}" for e in ("step", "exp_avg", "exp_avg_sq") for p in two.state_dict()}
    assert tensors.keys() == entries
    saved = {name: tensor.clone() for name, tensor in tensors.items()}

    two.load_state_dict(one.state_dict(), strict=False)
    fresh = torch.optim.AdamW(two.parameters(), lr=0.01, weight_decay=0.0, fused=True)
    load_optimizer(fresh, two, saved)
    train(two, fresh, range(3, 6))
    train(one, optimizer, range(3, 6))
    for name, p in two.named_parameters():
        assert torch.equal(p, one.state_dict()[name])
    assert torch.equal(saved["step.0.weight"], torch.tensor(3.0))


def test_state_that_fits_no_parameter_is_named() -> None:
    model = nn.Linear(3, 3)
    with pytest.raises(ValueError, match=r"fits no parameter: exp_avg.bias, exp_avg.nothing$"):
        load_optimizer(
            adamw(model, lr=0.1),
            model,
            {
                "exp_avg.weight": torch.zeros(3, 3),
                "exp_avg.bias": torch.zeros(4),
                "exp_avg.nothing": torch.zeros(3),
            },
        )
    with pytest.raises(ValueError, match="nothing to train"):
        adamw(nn.Identity(), lr=0.1)
