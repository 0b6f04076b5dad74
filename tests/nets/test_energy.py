"""An energy: its answer is minus its gradient, with gradients on and off, and it can be trained and sampled."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from logsnr.data.toys import TOYS
from logsnr.denoiser import LABELS, Denoiser, Model
from logsnr.draws import Draws
from logsnr.nets import Energy, build, configure, construct
from logsnr.objectives import WEIGHTS, Matching, Uniform
from logsnr.oracles import Oracle
from logsnr.path import Path
from logsnr.prediction import TARGETS
from logsnr.records import Part
from logsnr.run.build import sampler
from logsnr.samplers import SAMPLERS, prior, seeded, simulate
from logsnr.scales import ve
from logsnr.schedules import geometric

torch.set_num_threads(1)
CASES = [("mlp-tiny", (3,), {}), ("tiny", (1, 4, 4), {"attention": [2]})]


class Sines(nn.Module):
    """A smooth field in float64."""

    def __init__(self) -> None:
        super().__init__()
        matrix = torch.randn(4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        self.matrix = nn.Parameter(matrix)

    def forward(self, x: Tensor, label: Tensor, **condition: Tensor) -> Tensor:
        return torch.sin(x @ self.matrix) + label.unsqueeze(1)


def test_it_answers_with_minus_its_gradient() -> None:
    network, x = Energy(Sines()), torch.randn(5, 4, dtype=torch.float64)
    label, step = torch.rand(5, dtype=torch.float64), 1e-6
    assert torch.allclose(network.energy(x, label), -(x * network.inner(x, label)).sum(1))
    for i in range(4):
        along = step * torch.eye(4, dtype=torch.float64)[i]
        difference = (network.energy(x + along, label) - network.energy(x - along, label)) / (2 * step)
        assert torch.allclose(network(x, label)[:, i], -difference, atol=1e-8)


@pytest.mark.parametrize(("name", "shape", "options"), CASES)
def test_its_field_is_free_of_curl_and_a_network_s_is_not(
    awaken: Callable[[nn.Module], nn.Module], name: str, shape: tuple[int, ...], options: dict[str, Any]
) -> None:
    x, label = torch.randn(1, *shape), torch.rand(1)
    asymmetry = []
    for output in ("energy", None):
        network = awaken(build(name, shape, output=output, **options)).requires_grad_(False)
        field = partial(network, label=label)
        jacobian = torch.autograd.functional.jacobian(field, x).reshape(x.numel(), x.numel())
        asymmetry.append(float((jacobian - jacobian.T).norm() / jacobian.norm()))
    assert asymmetry[0] < 1e-4 < 0.05 < asymmetry[1]


@pytest.mark.parametrize(("name", "shape", "options"), CASES)
def test_it_answers_the_same_without_gradients(
    awaken: Callable[[nn.Module], nn.Module], name: str, shape: tuple[int, ...], options: dict[str, Any]
) -> None:
    network, x, label = awaken(build(name, shape, output="energy", **options)), torch.randn(3, *shape), torch.rand(3)
    with_graph = network(x, label)
    assert with_graph.requires_grad
    with torch.no_grad():
        without = network(x, label)
    with torch.inference_mode():
        answer = network(x.clone(), label.clone())
    assert torch.equal(answer, without)
    assert torch.allclose(answer, with_graph, atol=1e-5)  # another kernel, differentiable again
    assert not answer.requires_grad


def test_it_learns_by_matching_and_every_sampler_runs_it() -> None:
    """Two blobs: the energy is lower where the data is, and samplers find it as they do with the exact denoiser."""
    torch.manual_seed(0)
    path, law = Path(geometric(0.1, 3.0), ve), TOYS["two"]()
    network = build("mlp-tiny", (2,), output="energy")
    model = Denoiser(network, path, TARGETS["scaled_score"], label=LABELS["log_sigma"])
    objective = Matching(path, WEIGHTS["simple"], Uniform(path.schedule))
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for step in range(200):
        x0 = law.sample(256, seed=step).float()
        optimizer.zero_grad()
        objective(model, x0, Draws(0, step, torch.arange(256), 256)).total.mean().backward()
        optimizer.step()
    model.eval()
    like = torch.empty(256, 2)
    noise = seeded(1, torch.arange(256), like)

    def near(name: str, model: Model) -> torch.Tensor:
        """Share of the samples at each blob."""
        with torch.inference_mode():
            *_, end = simulate(sampler(Part(name), path), model, prior(path, noise), path.grid(30), noise=noise)
        return ((end.x.unsqueeze(1) - law.means.float()).norm(dim=2) < 0.7).double().mean(0)

    for name in SAMPLERS:
        found, exact = near(name, model), near(name, Oracle(law))
        assert found.sum() > exact.sum() - 0.1, name
        assert found.min() > 0.05, name
    level = path.at(0.2)
    label = LABELS["log_sigma"](path, level).float()
    places = torch.tensor([[1.0, 1.0], [0.0, 0.0], [1.0, -1.0]])
    at_mode, between, away = network.energy(places, label.expand(3)).tolist()
    assert at_mode < between < away


def test_it_is_a_word_of_the_configuration() -> None:
    record = configure("digits", (1, 8, 8), output="energy")
    assert record["output"] == "energy"
    assert "output" not in configure("digits", (1, 8, 8))
    assert type(construct(record)) is Energy
    with pytest.raises(ValueError, match="unknown output 'enrgy' of a network; known: energy"):
        configure("digits", (1, 8, 8), output="enrgy")
    with pytest.raises(ValueError, match="answers with the 3 channels of x, and 6 are wanted"):
        build("mlp-tiny", (3,), out_channels=6, output="energy")(torch.zeros(2, 3), torch.zeros(2))
