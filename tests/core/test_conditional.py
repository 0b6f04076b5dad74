"""Conditions in training: how often they are dropped, what a dropped row is, and that both laws are learned."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from logsnr.data.toys import gaussian, mixture
from logsnr.denoiser import LABELS, Conditioned, Denoiser
from logsnr.draws import Draws
from logsnr.level import Level
from logsnr.nets import build
from logsnr.objectives import WEIGHTS, Matching, Task, Uniform
from logsnr.oracles import Oracle
from logsnr.path import Path
from logsnr.prediction import TARGETS
from logsnr.scales import vp
from logsnr.schedules import Linear

PATH = Path(Linear(-6, 6), vp)
K = 3


def task(drop: float, **sizes: int) -> Task:
    torch.manual_seed(0)
    network = build("mlp-tiny", (2,), width=32, num_classes=K, **sizes)
    for parameter in network.parameters():  # no branch is silent
        torch.nn.init.normal_(parameter, std=0.3)
    model = Denoiser(network, PATH, TARGETS["eps"], label=LABELS["gamma"])
    return Task(model, Matching(PATH, WEIGHTS["simple"], Uniform(PATH.schedule)), drop=drop, num_classes=K)


class Seen(torch.nn.Module):
    """A model that keeps the conditions it is called with."""

    def forward(self, x: Tensor, level: Level, **condition: Tensor) -> Any:
        self.condition = condition
        return Oracle(gaussian(torch.zeros(2), 1.0))(x, level)


def dropped(drop: float, step: int, index: Tensor, *, seed: int = 0, training: bool = True) -> Tensor:
    """Which rows of the batch `index` the model sees without their condition."""
    seen = Seen()
    objective = Matching(PATH, WEIGHTS["simple"], Uniform(PATH.schedule))
    made = Task(seen, objective, drop=drop, num_classes=K).train(training)  # type: ignore[arg-type]
    count = len(index)
    vector = torch.ones(count, 3)
    made(torch.zeros(count, 2), Draws(seed, step, index, 4096), classes=index % K, vector=vector)
    gone = seen.condition["classes"] == K
    assert torch.equal(gone, (seen.condition["vector"] == 0).all(1)), "all conditions of a row together"
    assert torch.equal(seen.condition["classes"][~gone], (index % K)[~gone])
    return gone


@pytest.mark.parametrize("drop", [0.1, 0.35])
def test_the_share_dropped_is_p(drop: float) -> None:
    gone = torch.stack([dropped(drop, step, torch.arange(4096)) for step in range(10)]).double()
    error = (drop * (1 - drop) / gone.numel()) ** 0.5
    assert float(gone.mean()) == pytest.approx(drop, abs=4 * error)
    together = (gone[0] * gone[1]).mean()
    assert float(together) == pytest.approx(drop**2, abs=4 * (drop**2 / 4096) ** 0.5), "steps are independent"


def test_the_coin_belongs_to_the_example() -> None:
    whole = dropped(0.5, 7, torch.arange(64))
    assert torch.equal(torch.cat([dropped(0.5, 7, part) for part in torch.arange(64).split(9)]), whole)
    assert not torch.equal(dropped(0.5, 8, torch.arange(64)), whole)
    assert not torch.equal(dropped(0.5, 7, torch.arange(64), seed=1), whole)


def test_nothing_is_dropped_at_zero_or_outside_training() -> None:
    assert not dropped(0.0, 0, torch.arange(512)).any()
    assert not dropped(0.9, 0, torch.arange(512), training=False).any()


def test_a_dropped_row_is_the_unconditional_call() -> None:
    made = task(0.5, vector_features=1).train()
    index, x0 = torch.arange(64), torch.randn(64, 2)
    draws = Draws(0, 3, index, 64)
    given = {"classes": index % K, "vector": torch.cat([torch.randn(64, 1), torch.ones(64, 1)], 1)}
    gone = draws.uniform("condition") < 0.5
    loss, bare = made(x0, draws, **given).total, made(x0, draws).total
    full = made.eval()(x0, draws, **given).total
    assert torch.allclose(loss[gone], bare[gone], rtol=1e-6)
    assert torch.allclose(loss[~gone], full[~gone], rtol=1e-5)
    assert ((bare - full).abs() > 1e-3 * full).double().mean() > 0.9


def test_the_conditional_and_the_unconditional_denoiser_are_learned() -> None:
    """Two classes of 0.2 and 0.8: E[x0 | x_t, c] is that of one Gaussian, E[x0 | x_t] that of the mixture."""
    means, weights, variance = torch.tensor([[-1.0, 0.5], [1.0, -0.5]]), torch.tensor([0.2, 0.8]), 0.09
    torch.manual_seed(0)
    network = build("mlp-tiny", (2,), num_classes=2)
    model = Denoiser(network, PATH, TARGETS["v"], label=LABELS["gamma"])
    made = Task(model, Matching(PATH, WEIGHTS["simple"], Uniform(PATH.schedule)), drop=0.3, num_classes=2).train()
    optimizer = torch.optim.Adam(made.parameters(), lr=4e-3)
    steps, batch = 400, 384
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 4e-3 * (1 - step / steps)
        draws = Draws(0, step, torch.arange(batch), batch)
        classes = (draws.uniform("class") < float(weights[1])).long()
        x0 = means[classes] + variance**0.5 * draws.normal("x0", torch.empty(batch, 2))
        optimizer.zero_grad()
        made(x0, draws, classes=classes).total.mean().backward()
        optimizer.step()
    model.eval()
    laws = {
        "class 0": (gaussian(means[0], variance), {"classes": torch.zeros(400, dtype=torch.int64)}),
        "class 1": (gaussian(means[1], variance), {"classes": torch.ones(400, dtype=torch.int64)}),
        "none": (mixture(weights, means, variance), {"classes": torch.full((400,), 2)}),
    }
    for gamma in (-2.0, 0.0, 2.0):
        level = PATH.at_gamma(torch.tensor(gamma, dtype=torch.float64))
        answers = {}
        for name, (law, condition) in laws.items():
            noise = torch.randn(400, 2, generator=torch.Generator().manual_seed(1))
            x = level.perturb(law.sample(400, seed=3).float(), noise)
            with torch.inference_mode():
                answers[name] = Conditioned(model, condition)(x, level).x0
            exact = Oracle(law)(x, level).x0
            error = (answers[name] - exact).square().mean().sqrt()
            assert error < 0.08, (name, gamma, float(error))
    # the three laws are far apart for such a bar
    assert (Oracle(laws["class 0"][0])(x, level).x0 - exact).square().mean().sqrt() > 0.3
