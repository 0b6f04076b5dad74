"""NCSN, NCSNv2 and the sliced score matching program: losses, levels and Langevin chains.

Their σ_i descend and are counted from the largest; a table here ascends. Their losses are sums over dimensions.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from logsnr.denoiser import Model
from logsnr.guidance import Inpainted
from logsnr.level import Level
from logsnr.nets.energy import minus_gradient
from logsnr.objectives import WEIGHTS, Setting, Sliced, sliced_score_matching
from logsnr.objectives.sliced import PROJECTIONS, Slices
from logsnr.oracles import Oracle
from logsnr.path import Path
from logsnr.prediction import Prediction, score
from logsnr.samplers import AnnealedLangevin, Noise
from logsnr.scales import ve
from logsnr.schedules import SCHEDULES, Table, geometric

from .parts import DTYPES, Recorded, Tape, dims, law, length, matching, model, walk
from .reference import Reference


def table(sigmas: Tensor) -> Path:
    """The variance-exploding path of descending σ_i."""
    return Path(Table(2 * sigmas.flip(0).log()), ve)


def times(path: Path, labels: Tensor) -> Tensor:
    """t of the originals' labels, which count from the largest σ."""
    return (length(path) - labels.double()) / length(path)


def sigmas(reference: Reference) -> None:
    """get_sigmas: `<name>_params` = (σ_1, σ_L, L); "uniform" is recorded without parameters: its own ends."""
    for match in reference.keys(r"(\w+)_params"):
        first, last, count = reference.read(match[0]).tolist()
        check_sigmas(reference, match[1], first, last, int(count), "geometric")
    for match in reference.keys(r"f64_(uniform)"):
        recorded = reference.recorded(match[0])
        check_sigmas(reference, match[1], float(recorded[0]), float(recorded[-1]), len(recorded), "uniform")


def check_sigmas(reference: Reference, name: str, first: float, last: float, count: int, spacing: str) -> None:
    path = Path(SCHEDULES["sigma_table"](last, first, count, spacing), ve)
    found = path.grid(count - 1, end="lowest").sigma
    reference.check(f"f64_{name}", found, 1e-12)
    reference.check(f"f32_{name}", found.float(), 1e-6)


class Scaled:
    """A model whose score is k times another's."""

    def __init__(self, model: Model, factor: float) -> None:
        self.model, self.factor = model, factor

    def __call__(self, x: Tensor, level: Level, **condition: Tensor) -> Prediction:
        return Prediction(x, level, score(level), self.factor * self.model(x, level).score)


def half_sum(path: Path, model: Model, data: Tensor, noise: Tensor, t: Tensor, power: float) -> Tensor:
    """½ Σ |s + ε/σ|² σ^p for each example: D/2 times the library's loss of weight "sigma_power"."""
    return 0.5 * dims(data) * matching(path, model, data, noise, t, "sigma_power", power=power).total


def dsm_loss(reference: Reference) -> None:
    """anneal_dsm_score_estimation: `<precision>_dsm_power<p>_scale<k>_<mean|per_sample>`."""
    path, density = table(reference.read("sigmas")), law(reference)
    t = times(path, reference.read("dsm_labels"))
    for match in reference.keys(r"(f\d\d)_dsm_power([\d.]+)_scale([\d.]+)_(mean|per_sample)"):
        precision, power, factor, what = match.groups()
        data, noise = (reference.read(key, DTYPES[precision]) for key in ("samples", "dsm_noise"))
        scaled = Scaled(model(density, path, score), float(factor))
        value = half_sum(path, scaled, data, noise, t, float(power))
        value = value.mean() if what == "mean" else value
        reference.check(match[0], value, 1e-10 if precision == "f64" else 1e-5)


def vectors(reference: Reference, key: str, count: int) -> Tensor:
    """(k, B, *) from the originals' (k B, *)."""
    stored = reference.read(key)
    return stored.reshape(count, -1, *stored.shape[1:])


def sliced_loss(reference: Reference) -> None:
    """NCSN's own sliced and denoising losses; the projections are Gaussian, whatever its comment says."""
    path, density, data = table(reference.read("sigmas")), law(reference), reference.read("samples")
    t = times(path, reference.read("labels"))
    for match in reference.keys(r"f64_(anneal_ssm_vr_particles(\d+))"):
        tapes = {"eps": reference.read(f"{match[1]}_noise")}
        many = vectors(reference, f"{match[1]}_vectors", int(match[2]))
        tapes |= {f"projection/{i}": v for i, v in enumerate(many)}
        setting = Setting(path, WEIGHTS["simple"], Recorded(t), "small", None)
        loss = Sliced(setting, "gaussian", len(many))(Oracle(density), data, Tapes(tapes))
        # the constant 1 of the library's loss is E|ε|²/D, which theirs leaves out
        reference.check(match[0], 0.5 * dims(data) * (loss.total - 1).mean(), 1e-9)
    value = half_sum(path, Oracle(density), data, reference.read("anneal_dsm_v1_noise"), t, 2.0)
    reference.check("f64_anneal_dsm_v1", value.mean(), 1e-9)
    for match in reference.keys(r"f64_dsm_fixed_sigma([\d.]+)"):
        fixed = Path(geometric(float(match[1]), 1.0), ve)
        noise = reference.read("dsm_fixed_noise")
        value = half_sum(fixed, Oracle(density), data, noise, torch.zeros(len(data), dtype=torch.float64), 0.0)
        reference.check(match[0], value.mean(), 1e-9)
    alpha, sigma = (torch.tensor(value, dtype=torch.float64) for value in (1.0, 0.1))
    for match in reference.keys(r"f64_ssm_est_vr_4d_particles(\d+)"):
        v = vectors(reference, f"{match[0].removeprefix('f64_')}_vectors", int(match[1]))
        terms = sliced_score_matching(lambda x: density.score(x, alpha, sigma), reference.read("ssm_samples_4d"), v)
        reference.check(match[0], three(terms), 1e-9)


def three(terms: Slices) -> Tensor:
    """[loss, norm, trace], as the originals return them."""
    return torch.stack([terms.trace + terms.norm, terms.norm, terms.trace]).mean(1)


class Tapes(Tape):
    """Recorded draws by name."""

    def __init__(self, draws: dict[str, Tensor]) -> None:
        super().__init__(draws["eps"])
        self.draws = draws

    def normal(self, name: str, like: Tensor) -> Tensor:
        return self.draws[name].to(like)


def ssm_losses(reference: Reference) -> None:
    """The program of the sliced score matching paper, on an energy or on its score, which are one here."""
    density, x = law(reference), reference.read("samples")
    alpha, sigma = torch.ones((), dtype=torch.float64), reference.read("sigma")
    size = dims(x)

    def energy(y: Tensor) -> Tensor:
        return -density.log_prob(y, alpha, sigma)

    def field(y: Tensor) -> Tensor:
        return density.score(y, alpha, sigma).reshape(y.shape)

    def of_energy(y: Tensor) -> Tensor:
        return minus_gradient(energy, y)

    # the whole basis at length √D is an exact mean over the sphere
    basis = size**0.5 * torch.eye(size, dtype=torch.float64).unsqueeze(1).expand(-1, *x.shape)
    terms = sliced_score_matching(of_energy, x, basis)
    reference.check("f64_exact_score_matching_per_sample", terms.trace + terms.norm, 1e-9)
    names = {"radermacher": "rademacher", "sphere": "sphere", "gaussian": "gaussian"}
    for match in reference.keys(r"f64_(single_ssm|ssm_vr)_(radermacher|sphere|gaussian)"):
        v = PROJECTIONS[names[match[2]]](reference.read("single_ssm_randn")).unsqueeze(0)
        terms = sliced_score_matching(of_energy, x, v, variance_reduced=match[1] == "ssm_vr")
        reference.check(match[0], (terms.trace + terms.norm).mean(), 1e-9)
    for match in reference.keys(r"f64_ssm_(est_)?(vr_)?particles(\d+)"):
        of_score, reduced, count = match.groups()
        z = vectors(reference, f"vectors_particles{count}", int(count))
        # `sliced_score_matching` and its estimation twin have unit vectors: 1/D of what the paper writes
        v = z if reduced else PROJECTIONS["sphere"](z.flatten(0, 1)).reshape(z.shape) / size**0.5
        terms = sliced_score_matching(field if of_score else of_energy, x, v, variance_reduced=bool(reduced))
        reference.check(match[0], three(terms), 1e-9)


class Watched:
    """A model that keeps every state it was asked about."""

    def __init__(self, model: Model) -> None:
        self.model, self.seen = model, list[Tensor]()

    def __call__(self, x: Tensor, level: Level, **condition: Tensor) -> Prediction:
        self.seen.append(x)
        return self.model(x, level)


def in_order(noise: Tensor) -> Noise:
    """Recorded draws, one after the other, whatever they are called."""
    left: Iterator[Tensor] = iter(noise)
    return lambda step, draw: next(left)


def langevin(reference: Reference) -> None:
    """anneal_Langevin_dynamics: `_images` are the states after each update and, denoised, the last x̂0."""
    path, density = table(reference.read("sigmas")), law(reference)
    sampler = AnnealedLangevin(path, reference.number("n_steps_each"), float(reference.read("step_lr")))
    for match in reference.keys(r"((f\d\d)_denoise(\d))_final"):
        run, precision, denoise = match.groups()
        noise, x = (reference.read(key, DTYPES[precision]) for key in ("noise", "x_init"))
        watched = Watched(model(density, path, score))
        grid = path.grid(length(path)) if denoise == "1" else path.grid(length(path) - 1, end="lowest")
        end = walk(sampler, watched, x, grid, in_order(noise))[-1].x
        tolerance = 1e-9 if precision == "f64" else 1e-4
        reference.check(match[0], end, tolerance)
        reference.check(f"{run}_images", torch.stack([*watched.seen[1:], end]), tolerance)


def inpainting(reference: Reference) -> None:
    """anneal_Langevin_dynamics_inpainting: the left half is known, m samples of each of n references.

    `images` holds the states before each update, with the known half of that update already in them (the program
    overwrites in place what it has stored): what the network was shown. The last update is never returned.
    """
    path, density = table(reference.read("sigmas")), law(reference)
    x, known = reference.read("x_init"), reference.read("refer")
    known = known.unsqueeze(1).expand(x.shape).flatten(0, 1)
    width = known.shape[-1] // 2
    left = torch.arange(known.shape[-1]) < width
    halves = iter(reference.read("half_noise"))
    watched = Watched(model(density, path, score))

    def half(step: int, draw: str) -> Tensor:
        drawn = next(halves)
        return torch.cat([drawn, torch.zeros(*drawn.shape[:-1], known.shape[-1] - width, dtype=drawn.dtype)], -1)

    sampler = AnnealedLangevin(path, reference.number("n_steps_each"), float(reference.read("step_lr")))
    grid = path.grid(length(path) - 1, end="lowest")
    walk(sampler, Inpainted(watched, known, left, half), x.flatten(0, 1), grid, in_order(reference.read("full_noise")))
    images = torch.stack(watched.seen)
    reference.check("f64_images", images, 1e-9)
    reference.check("f64_images_final", images[-1], 1e-9)
    reference.check("f64_images_count", torch.tensor(len(images)), 0.0)
