"""Sliced score matching: unbiased, exact on a whole basis, and one with denoising score matching on noisy data."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from logsnr import nets
from logsnr.data.toys import TOYS
from logsnr.denoiser import LABELS, Denoiser
from logsnr.draws import Draws
from logsnr.objectives import OBJECTIVES, WEIGHTS, Matching, Setting, Sliced, Uniform, sliced_score_matching
from logsnr.objectives.sliced import PROJECTIONS
from logsnr.oracles import Oracle
from logsnr.path import Path
from logsnr.prediction import TARGETS
from logsnr.scales import SCALES
from logsnr.schedules import Linear

torch.set_num_threads(1)

MATRIX = torch.randn(6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
X = torch.randn(2, 1, 2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
REDUCED = pytest.mark.parametrize("variance_reduced", [True, False])


def field(x: Tensor) -> Tensor:
    """A field that is no gradient and not linear."""
    return torch.tanh(x.flatten(1) @ MATRIX).reshape(x.shape) - 0.3 * x


def exact(x: Tensor) -> Tensor:
    """tr ∇s + ½|s|² from the whole Jacobian, (B,)."""
    jacobians = [torch.autograd.functional.jacobian(field, row.unsqueeze(0)).reshape(6, 6) for row in x]
    return torch.stack([j.trace() for j in jacobians]) + 0.5 * (field(x) ** 2).flatten(1).sum(1)


def normals(count: int, like: Tensor, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, *like.shape, dtype=like.dtype, generator=generator)


@REDUCED
def test_a_whole_basis_is_the_exact_trace(variance_reduced: bool) -> None:
    basis = 6**0.5 * torch.eye(6, dtype=torch.float64).reshape(6, 1, 1, 2, 3).expand(6, *X.shape)
    terms = sliced_score_matching(field, X, basis, variance_reduced=variance_reduced)
    assert torch.allclose(terms.trace + terms.norm, exact(X), rtol=1e-12)
    assert torch.allclose(terms.norm, 0.5 * (field(X) ** 2).flatten(1).sum(1), rtol=1e-12)


@REDUCED
@pytest.mark.parametrize("name", PROJECTIONS)
def test_every_projection_is_unbiased(name: str, variance_reduced: bool) -> None:
    draws = 6000
    x = X.repeat(draws, 1, 1, 1)
    v = PROJECTIONS[name](normals(1, x)[0]).unsqueeze(0)
    terms = sliced_score_matching(field, x, v, variance_reduced=variance_reduced)
    estimates = (terms.trace + terms.norm).reshape(draws, len(X))
    error = (estimates.mean(0) - exact(X)) / (estimates.std(0) / draws**0.5)
    assert error.abs().max() < 4, error
    norm = 0.5 * (field(X) ** 2).flatten(1).sum(1)
    assert (estimates.std(0) / draws**0.5 < 0.1 * norm).all(), "or the test would be blind to a factor"


def test_projections_have_unit_covariance_and_their_shape() -> None:
    z = normals(1, torch.zeros(200_000, 3))[0].double()
    for project in PROJECTIONS.values():
        v = project(z)
        assert torch.allclose(v.T @ v / len(v), torch.eye(3, dtype=v.dtype), atol=0.012)
    assert torch.equal(PROJECTIONS["rademacher"](z).abs(), torch.ones_like(z))
    assert torch.allclose(PROJECTIONS["sphere"](z).norm(dim=1), torch.full((len(z),), 3**0.5, dtype=z.dtype))


def test_the_reduced_form_has_less_variance() -> None:
    x = X.repeat(500, 1, 1, 1)
    v = normals(1, x)
    spread = [
        (lambda terms: (terms.trace + terms.norm).reshape(500, -1).var(0))(
            sliced_score_matching(field, x, v, variance_reduced=reduced)
        )
        for reduced in (True, False)
    ]
    assert (spread[0] < spread[1]).all()


class Affine(nn.Module):
    """A network of two numbers: slope and offset."""

    def __init__(self) -> None:
        super().__init__()
        self.slope = nn.Parameter(torch.tensor(0.4, dtype=torch.float64))
        self.offset = nn.Parameter(torch.tensor(0.1, dtype=torch.float64))

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        return self.slope * torch.sin(x) + self.offset


def setting(path: Path, weight: str = "simple") -> Setting:
    return Setting(path, WEIGHTS[weight], Uniform(path.schedule), "small", None)


@pytest.mark.parametrize("weight", ["simple", "likelihood"])
@pytest.mark.parametrize("scale", ["ve", "vp"])
def test_the_mean_and_the_gradient_are_those_of_denoising_score_matching(scale: str, weight: str) -> None:
    """At equal weight, in every unit, for a model that is far from right: paired over the same x_t."""
    path, batches, size = Path(Linear(-3, 2), SCALES[scale]), 40, 500
    model = Denoiser(Affine(), path, TARGETS["eps"], label=LABELS["gamma"])
    given = setting(path, weight)
    gaps = []
    for batch in range(batches):
        x0 = TOYS["two"]().sample(size, seed=batch)
        draws = Draws(batch, 0, torch.arange(size), size)
        sliced, matched = (
            objective(model, x0, draws).total.mean()
            for objective in (Sliced(given, "rademacher", 2), Matching(path, given.weight, given.times))
        )
        parameters = list(model.parameters())
        pairs = zip(torch.autograd.grad(sliced, parameters), torch.autograd.grad(matched, parameters), strict=True)
        gaps.append(torch.stack([sliced - matched, *(a - b for a, b in pairs)]).detach())
    gap = torch.stack(gaps)
    error = gap.mean(0) / (gap.std(0) / batches**0.5)
    assert error.abs().max() < 4, error
    assert (gap.std(0) / batches**0.5).max() < 0.05 * (1 if weight == "simple" else 5), "precise enough to see a factor"


def test_an_exact_model_has_the_least_loss() -> None:
    """The loss of k times the exact score is a parabola in k with its minimum at 1, where it is matching's minimum."""
    law, path, size = TOYS["two"](), Path(Linear(-4, 2), SCALES["ve"]), 20_000
    draws, x0 = Draws(0, 0, torch.arange(size), size), law.sample(size)
    loss = Sliced(setting(path))(Oracle(law), x0, draws)
    matched = Matching(path, WEIGHTS["simple"], Uniform(path.schedule))(Oracle(law), x0, draws)
    gap = (loss.total - matched.total).detach()
    assert float(gap.mean()) == pytest.approx(0, abs=4 * float(gap.std()) / size**0.5)
    # ∂/∂k at k = 1: trace + 2 norm = 0
    slope = (loss.parts["trace"] + 2 * loss.parts["norm"]).detach()
    assert float(slope.mean()) == pytest.approx(0, abs=4 * float(slope.std()) / size**0.5)
    assert float(slope.std()) / size**0.5 < 0.02 * float(loss.parts["norm"].mean())


@pytest.mark.parametrize("output", [None, "energy"])
@pytest.mark.parametrize(
    ("name", "shape", "options"),
    [
        ("mlp-tiny", (3,), {"width": 16}),
        ("tiny", (1, 4, 4), {"channels": 4, "attention": [1, 2], "heads": 2}),
        ("tiny", (2, 4, 4), {"channels": 4, "resample": "resnet", "scale_shift": False}),
    ],
)
@pytest.mark.parametrize("train", [True, False])
def test_networks_have_the_second_derivative(
    name: str, shape: tuple[int, ...], options: dict[str, object], output: str | None, train: bool
) -> None:
    """The gradient of the loss along a random direction of the parameters, against a central difference."""
    torch.manual_seed(0)
    network = nets.build(name, shape, output=output, **options).train(train)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(0, 0.3)
    path = Path(Linear(-2, 2), SCALES["vp"])
    model = Denoiser(network, path, TARGETS["eps"], label=LABELS["gamma"])
    objective, draws = Sliced(setting(path)), Draws(0, 0, torch.arange(3), 3)
    x0 = normals(1, torch.zeros(3, *shape))[0]

    def loss() -> Tensor:
        return objective(model, x0, draws).total.mean()

    parameters = list(network.parameters())
    direction = [torch.randn_like(p) for p in parameters]
    gradient = torch.autograd.grad(loss(), parameters)
    along = sum(float((g * d).sum()) for g, d in zip(gradient, direction, strict=True))
    values = []
    step = 2e-4
    for sign in (1, -2):
        with torch.no_grad():
            for p, d in zip(parameters, direction, strict=True):
                p += sign * step * d
        values.append(float(loss()))
    assert (values[0] - values[1]) / (2 * step) == pytest.approx(along, rel=0.02)  # networks are in float32


def test_held_out_loss_needs_no_gradients() -> None:
    path = Path(Linear(-3, 2), SCALES["ve"])
    model = Denoiser(Affine(), path, TARGETS["score"], label=LABELS["gamma"])
    x0 = TOYS["two"]().sample(8)
    trained = Sliced(setting(path), count=2)(model, x0, Draws(1, 0, torch.arange(8), 8))
    with torch.inference_mode():
        held_out = Sliced(setting(path), count=2)(model, x0.clone(), Draws(1, 0, torch.arange(8), 8))
    assert trained.total.requires_grad
    assert not held_out.total.requires_grad
    assert torch.equal(trained.total, held_out.total)


def test_projections_of_an_example_are_its_own() -> None:
    path = Path(Linear(-3, 2), SCALES["ve"])
    model = Denoiser(Affine(), path, TARGETS["score"], label=LABELS["gamma"])
    x0, draws = TOYS["two"]().sample(8), Draws(1, 0, torch.arange(8), 8)
    whole = Sliced(setting(path), count=3)(model, x0, draws).total
    assert torch.allclose(Sliced(setting(path), count=3)(model, x0[2:5], draws.rows(slice(2, 5))).total, whole[2:5])


@pytest.mark.parametrize(("options", "message"), [({"count": 0}, "at least 1"), ({"projections": "cube"}, "sphere")])
def test_impossible_options_are_refused(options: dict[str, object], message: str) -> None:
    make: Callable[..., object] = OBJECTIVES["sliced"]
    with pytest.raises(ValueError, match=message):
        make(setting(Path(Linear(-3, 2), SCALES["ve"])), **options)
