"""Encoding undoes decoding, on every path, and slerp stays on the sphere (M5, M6)."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from logsnr.betas import linear
from logsnr.data.toys import gaussian, mixture
from logsnr.level import Level
from logsnr.oracles import Oracle
from logsnr.path import Path
from logsnr.samplers import DDIM, Ancestral, Sampler, Step, encode, simulate, slerp
from logsnr.scales import SCALES
from logsnr.schedules import BetaLinear, Linear, NoiseSchedule, geometric, table_of_betas

from .instances import INSTANCES
from .response import LAW, moments

torch.set_num_threads(1)

GENERATOR = torch.Generator().manual_seed(0)
MIXTURE = mixture(torch.tensor([0.3, 0.7]), torch.tensor([[-1.0, 0.5, 0.0], [1.0, 1.0, 0.2]]), 0.09)


class Whole(NoiseSchedule):
    """γ = 2 log(t/(1 − t)): on the straight scale σ = t, with both ends."""

    def forward(self, t: Tensor) -> Tensor:
        return 2 * torch.log(t / (1 - t))


PATHS = {
    "ddpm": Path(table_of_betas(linear(1000)), SCALES["vp"]),
    "ve": Path(geometric(0.01, 50), SCALES["ve"]),
    "sub_vp": Path(BetaLinear(scale="sub_vp"), SCALES["sub_vp"]),
    "straight": Path(Linear(-9, 9), SCALES["straight"]),
    "pure noise": Path(Whole(), SCALES["straight"]),
}


def grid(name: str, steps: int) -> Level:
    if name == "pure noise":
        return PATHS[name].at(torch.linspace(1, 0, steps + 1, dtype=torch.float64))
    return PATHS[name].grid(steps)


def silent(step: int, name: str) -> Tensor:
    raise AssertionError(name)


def round_trip(name: str, law: Oracle, x0: Tensor, steps: int, **options: int) -> tuple[float, Tensor]:
    """Largest error of decode ∘ encode, and the latents."""
    levels = grid(name, steps)
    *_, up = encode(DDIM(), law, x0, levels, **options)
    *_, down = simulate(DDIM(), law, up.x, levels, noise=silent)
    return float((down.x - x0).abs().max()), up.x


@pytest.mark.parametrize("name", PATHS)
@pytest.mark.parametrize("law", [LAW, MIXTURE], ids=["gaussian", "mixture"])
def test_decoding_undoes_encoding(name: str, law: object) -> None:
    """The bar of a round trip at 100 steps: 1e-6. Each round of the fixed point multiplies the error by a constant."""
    oracle, x0 = Oracle(law), law.sample(16)
    errors = [round_trip(name, oracle, x0, 100, refinements=rounds)[0] for rounds in (0, 1, 2, 3)]
    assert round_trip(name, oracle, x0, 100)[0] < 1e-6
    assert all(after < before / 5 for before, after in pairwise(errors)), errors


def test_without_refinement_the_error_of_a_reconstruction_falls_with_the_steps() -> None:
    """DDIM's table 2: 10 to 1000 steps, here with the exact denoiser: first order."""
    x0 = LAW.sample(16)
    errors = [round_trip("sub_vp", Oracle(LAW), x0, steps, refinements=0)[0] for steps in (25, 100, 400)]
    assert errors[0] > 3 * errors[1] > 9 * errors[2]


def test_the_latent_of_gaussian_data_is_its_place_in_standard_deviations() -> None:
    """The flow of a Gaussian keeps every point's place, so many steps encode to it: a wrong direction would not."""
    x0, levels = LAW.sample(8), grid("ddpm", 1000)
    *_, up = encode(DDIM(), Oracle(LAW), x0, levels)
    top = moments(LAW, levels[0])
    place = (x0 - LAW.means[0]) / LAW.variances[0].sqrt()
    assert torch.allclose((up.x - top.mean) / top.std, place, atol=0.03)


def test_the_loop_up_is_the_grid_reversed_and_never_looks_at_clean_data() -> None:
    levels, seen = grid("ddpm", 6), []
    oracle = Oracle(LAW)

    def model(x: Tensor, level: Level) -> object:
        seen.append(float(level.gamma))
        return oracle(x, level)

    steps = list(encode(DDIM(), model, LAW.sample(3), levels, refinements=2))
    assert [float(step.level.t) for step in steps] == levels.t.flip(0)[1:].tolist()
    assert all(math.isfinite(gamma) for gamma in seen)
    assert int(torch.stack([step.evaluations for step in steps]).sum()) == 3 * len(seen)
    assert len(seen) == 2 + 5 * 3


@pytest.mark.parametrize(
    "name", [n for n, k in INSTANCES.items() if not k.declared.stochastic and k.declared.order is not None]
)
def test_any_deterministic_sampler_of_single_steps_can_be_undone(name: str) -> None:
    path = Path(Linear(-8, 8), SCALES["vp"])
    sampler, levels, x0 = INSTANCES[name].on(path), path.grid(60), LAW.sample(4)
    try:
        *_, up = encode(sampler, Oracle(LAW), x0, levels, refinements=12)
    except ValueError as error:
        if "this one remembers" not in str(error):
            raise
        return
    *_, down = simulate(sampler, Oracle(LAW), up.x, levels, noise=silent)
    assert (down.x - x0).abs().max() < 1e-7


class Remembering(Sampler):
    """A multistep sampler, as far as its memory goes."""

    order, scale_free, stochastic = 1, True, False

    def step(self, *args: object, **options: object) -> Step:
        made = DDIM().step(*args, **options)
        return Step(made.x, made.mean, made.prediction, made.level, made.evaluations, memory=made.x)


@pytest.mark.parametrize(
    ("sampler", "options", "message"),
    [
        (Ancestral(), {}, "a sampler without noise; allowed: ddim with eta = 0"),
        (DDIM(0.5), {}, "a sampler without noise"),
        (Remembering(), {}, "this one remembers; allowed: ddim"),
        (Remembering(), {"refinements": 0}, "this one remembers"),
        (DDIM(), {"refinements": -1}, "refinements = -1; allowed: at least 0"),
    ],
)
def test_what_has_no_inverse_is_refused(sampler: Sampler, options: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        list(encode(sampler, Oracle(LAW), LAW.sample(2), grid("ddpm", 5), **options))


def test_encoding_an_example_does_not_know_its_neighbours() -> None:
    x0 = LAW.sample(5)
    *_, whole = encode(DDIM(), Oracle(LAW), x0, grid("ve", 12))
    *_, part = encode(DDIM(), Oracle(LAW), x0[[3, 1]], grid("ve", 12))
    assert torch.allclose(part.x, whole.x[[3, 1]], rtol=0, atol=1e-12)


@pytest.mark.parametrize("shape", [(7,), (2, 3, 3)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_slerp_turns_by_equal_angles_and_meets_its_ends(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    a, b = torch.randn(2, 4, *shape, dtype=torch.float64, generator=GENERATOR).to(dtype)
    assert torch.equal(slerp(a, b, 0.0), a)
    assert torch.equal(slerp(a, b, 1.0), b)
    flat_a, flat_b = a.flatten(1).double(), b.flatten(1).double()
    cosine = (flat_a * flat_b).sum(1) / (flat_a.norm(dim=1) * flat_b.norm(dim=1))
    theta = torch.acos(cosine)
    for w in (0.25, 0.5, 0.9):
        found = slerp(a, b, w).flatten(1).double()
        expected = (torch.sin((1 - w) * theta) / torch.sin(theta)).unsqueeze(1) * flat_a + (
            torch.sin(w * theta) / torch.sin(theta)
        ).unsqueeze(1) * flat_b
        assert torch.allclose(found, expected, atol=1e-6 if dtype == torch.float32 else 1e-12)
    unit = [x / x.flatten(1).norm(dim=1).reshape(4, *(1,) * len(shape)) for x in (a, b)]
    on_circle = slerp(unit[0], unit[1], torch.tensor([0.1, 0.3, 0.5, 0.7])).flatten(1).double()
    assert torch.allclose(on_circle.norm(dim=1), torch.ones(4, dtype=torch.float64), atol=1e-6)
    turned = torch.acos((on_circle * unit[0].flatten(1).double()).sum(1))
    assert torch.allclose(turned, torch.tensor([0.1, 0.3, 0.5, 0.7]) * theta, atol=1e-5)


def test_slerp_of_equal_opposite_and_empty_latents_is_finite() -> None:
    a = torch.tensor([[1.0, 2.0], [1.0, 2.0], [0.0, 0.0]])
    b = torch.tensor([[2.0, 4.0], [-1.0, -2.0], [1.0, 1.0]])
    middle = slerp(a, b, 0.5)
    assert torch.allclose(middle[:2], torch.tensor([[1.5, 3.0], [0.0, 0.0]]), atol=1e-6)
    assert middle.isfinite().all()
    assert torch.equal(slerp(a, b, 1.0), b)


def test_gaussian_latents_of_one_noise_at_any_number_of_steps_decode_to_one_picture() -> None:
    """M6: the same x_T with different S keeps the picture."""
    noise = torch.randn(8, 3, dtype=torch.float64, generator=GENERATOR)
    law = Oracle(gaussian(LAW.means[0], LAW.variances[0]))
    ends = [list(simulate(DDIM(), law, noise, grid("ddpm", steps), noise=silent))[-1].x for steps in (20, 50, 1000)]
    assert (ends[0] - ends[2]).abs().max() < 0.5
    assert (ends[1] - ends[2]).abs().max() < 0.6 * (ends[0] - ends[2]).abs().max()
