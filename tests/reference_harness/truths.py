"""Closed forms and high-accuracy solutions: no original program, so the library has nothing to excuse itself with.

Where the record is an expectation over x0 and ε of a quadratic that is a sum over dimensions, the two-point rule
(mean ± std in each of x0 and ε) is exact, and no number here is a Monte Carlo estimate.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from scipy.integrate import solve_ivp
from torch import Tensor

from logsnr.data.toys import Mixture, gaussian
from logsnr.decoders import gaussian_density
from logsnr.dynamics import dynamics, flow_drift
from logsnr.kernels import Normal
from logsnr.level import Level, clean
from logsnr.likelihood import bound
from logsnr.loss import bits_per_dim
from logsnr.objectives import VDM, WEIGHTS, Setting
from logsnr.oracles import Oracle
from logsnr.path import Path
from logsnr.samplers import DDIM, prior, simulate
from logsnr.scales import ve, vp
from logsnr.schedules import Linear, geometric

from .parts import Recorded, dims, every_knot, law, length, matching, silence, table
from .reference import Reference


def mix(reference: Reference) -> None:
    """Density, score, denoiser and Laplacian of the mixture at levels (α, σ); row (1, 0) is the data."""
    density, levels, points = law(reference), reference.read("levels"), reference.read("x")
    shape = points.shape[:2]
    x, (alpha, sigma) = points.flatten(0, 1), levels.repeat_interleave(shape[1], 0).unbind(1)
    level = Level(alpha, 2 * (sigma.log() - alpha.log()), alpha.log(), sigma.log())
    prediction = Oracle(density)(x, level)
    log_prob = density.log_prob(x, alpha, sigma)
    values = {
        "logp": log_prob,
        "bpd_continuous": bits_per_dim(-log_prob, dims(x)),
        "score": density.score(x, alpha, sigma),
        "eps": prediction.eps,
        "x0_mean": prediction.x0,
        "laplacian_logp": laplacian(density, x, alpha, sigma),
    }
    for key, value in values.items():
        reference.check(key, value.unflatten(0, shape), 1e-10)
    noisy = sigma > 0
    score = reference.recorded("score").flatten(0, 1)[noisy]
    reference.fact("score read from the oracle", Oracle(density)(x[noisy], level[noisy]).score, score, 1e-10)


def laplacian(density: Mixture, x: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    """Trace of the derivative of the library's score, one direction at a time, (B,)."""
    trace = torch.zeros(len(x), dtype=x.dtype)
    for direction in torch.eye(dims(x), dtype=x.dtype).reshape(-1, *x.shape[1:]):
        tangent = direction.expand_as(x)
        derivative = torch.func.jvp(lambda y: density.score(y, alpha, sigma), (x,), (tangent,))[1]
        trace += (derivative * tangent).flatten(1).sum(1)
    return trace


def pf_ode(reference: Reference) -> None:
    """The probability-flow ODE in VE units, integrated with the library's drift; 1e-9."""
    density, sigmas = law(reference), reference.read("sigma")
    path = Path(geometric(float(sigmas[-1]), float(sigmas[0])), ve)
    t = path.time_of(2 * sigmas.log())
    start = prior(path, lambda step, draw: reference.read("z"))
    curve = integrate(path, density, start, t)
    reference.check("x", curve, 1e-9)
    recorded = reference.recorded("x")
    level = path.at(t.repeat_interleave(len(start)))
    log_prob = density.log_prob(recorded.flatten(0, 1), level.alpha, level.sigma).reshape(recorded.shape[:2])
    reference.check("logp_exact", log_prob, 1e-9)
    reference.check("delta_logp_ode", log_prob - log_prob[0], 1e-9)
    last = recorded[-1]
    reference.check("denoised_end", Oracle(density)(last, path.lowest).x0, 1e-9)
    # the same curve in VP units: another α for the same γ, and the same denoiser
    level, denoised = Path(path.schedule, vp).lowest, reference.recorded("denoised_end")
    reference.fact("denoised in VP units", Oracle(density)(last * level.alpha, level).x0, denoised, 1e-9)
    order(reference, path, density, start, recorded[-1])


def integrate(path: Path, density: Mixture, start: Tensor, t: Tensor) -> Tensor:
    """x along the descending times t, (len(t), B, *)."""
    process, oracle, shape = dynamics(path), Oracle(density), start.shape

    def drift(time: float, flat: np.ndarray) -> np.ndarray:
        x, now = torch.from_numpy(flat).reshape(shape), torch.tensor(time, dtype=torch.float64)
        return flow_drift(process, oracle(x, path.at(now)).score, x, now).flatten().numpy()

    times = t.numpy()
    solution = solve_ivp(drift, (times[0], times[-1]), start.flatten().numpy(), "DOP853", times, rtol=1e-11, atol=1e-11)
    return torch.from_numpy(solution.y.T.copy()).reshape(-1, *shape)


def order(reference: Reference, path: Path, density: Mixture, start: Tensor, end: Tensor) -> None:
    """DDIM is a first-order solver of that ODE: half the step, half the error."""
    errors = []
    for steps in (200, 400):
        *_, last = simulate(DDIM(), Oracle(density), start, path.grid(steps, end="lowest"), noise=silence)
        errors.append(float((last.x - end).abs().max()))
    measured = torch.tensor(math.log2(errors[0] / errors[1]), dtype=torch.float64)
    reference.fact("order of DDIM", measured, torch.ones((), dtype=torch.float64), 0.3)


def two_points(law: Mixture) -> tuple[Tensor, Tensor]:
    """The four nodes (x0, ε) = (μ ± std, ±1) of a Gaussian law, each of weight ¼."""
    signs = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]], dtype=torch.float64)
    ones = torch.ones(1, len(law.means[0]), dtype=torch.float64)
    return law.means[0] + law.variances[0].sqrt() * signs[:, :1], signs[:, 1:] * ones


def terms(path: Path, levels: Level, law: Mixture, variance: str, steps: Tensor) -> Tensor:
    """Expected terms `steps` of the bound along `levels`, (len(steps),)."""
    x0, eps = two_points(law)
    count = len(steps)
    every = bound(levels, path.prior_std, variance, gaussian_density).term(
        Oracle(law), x0.repeat(count, 1), eps.repeat(count, 1), steps.repeat_interleave(len(x0))
    )
    return every.reshape(count, -1).mean(1)


def prior_term(path: Path, levels: Level, law: Mixture) -> Tensor:
    """Expected prior term, ()."""
    return bound(levels, path.prior_std, "small", gaussian_density).prior(two_points(law)[0]).mean()


def matched(path: Path, law: Mixture, t: Tensor, weight: str) -> Tensor:
    """Expected sum over dimensions of the weighted squared error of ε at times t, (len(t),)."""
    x0, eps = two_points(law)
    count = len(t)
    loss = matching(path, Oracle(law), x0.repeat(count, 1), eps.repeat(count, 1), t.repeat_interleave(len(x0)), weight)
    return dims(x0) * loss.total.reshape(count, -1).mean(1)


def ddpm_single_gaussian(reference: Reference) -> None:
    """Every term of DDPM's bound for Gaussian data and its exact denoiser, for each `T<T>_betas`; 1e-9."""
    density = gaussian(reference.read("mu"), reference.read("var"))
    for match in reference.keys(r"(T\d+)_betas"):
        path = table(reference.read(match[0]))
        steps = length(path)
        grid = path.grid(steps)
        between = torch.arange(steps - 2, -1, -1)  # steps from t = 1 up to t = T − 1; the one from t = 0 ends clean
        for variance in ("small", "large"):
            value = terms(path, grid, density, variance, between)
            reference.check(f"{match[1]}_kl_fixed{variance}_nats", value, 1e-9)
        reference.check(f"{match[1]}_kl_prior_nats", prior_term(path, grid, density), 1e-9)
        t = every_knot(path)[0]
        of_eps = matched(path, density, t.t, "simple")
        reference.check(f"{match[1]}_eps_mse", of_eps, 1e-9)
        x0, eps = two_points(density)
        level, clean_x = t[torch.arange(steps).repeat_interleave(len(x0))], x0.repeat(steps, 1)
        error = Oracle(density)(level.perturb(clean_x, eps.repeat(steps, 1)), level).x0 - clean_x
        reference.check(f"{match[1]}_x0_mse", (error**2).sum(1).reshape(steps, -1).mean(1), 1e-9)


def vdm_single_gaussian(reference: Reference) -> None:
    """VDM's bound for Gaussian data, γ a line: T steps, the limit, and the information that it counts; 1e-9."""
    density = gaussian(reference.read("mu"), reference.read("var"))
    ends = (float(reference.read(f"gamma_{end}")) for end in ("min", "max"))
    path = Path(Linear(*ends), vp)
    sums = [
        terms(path, path.grid(steps, end="lowest"), density, "small", torch.arange(steps)).sum()
        for steps in reference.read("T").tolist()
    ]
    reference.check("loss_diff_T", torch.stack(sums), 1e-9)
    trained = torch.stack([as_loss(path, density, steps) for steps in reference.read("T").tolist()])
    reference.fact("loss_diff_T as a loss", trained, reference.recorded("loss_diff_T"), 1e-9)
    reference.check("kl_prior_expected", prior_term(path, path.grid(2, end="lowest"), density), 1e-9)
    reference.check("loss_curve_continuous", 0.5 * matched(path, density, reference.read("t_grid"), "likelihood"), 1e-9)
    nodes, weights = (torch.from_numpy(array) for array in np.polynomial.legendre.leggauss(200))
    integral = 0.25 * (weights * matched(path, density, 0.5 * (nodes + 1), "likelihood")).sum()
    reference.check("loss_diff_continuous", integral, 1e-9)
    for key, level in (("mutual_information_z0", path.lowest), ("mutual_information_z1", path.highest)):
        reference.check(key, information(density, level), 1e-9)
    entropy = -density.log_prob(two_points(density)[0], clean().alpha, clean().sigma).mean()
    reference.check("entropy_nats", entropy, 1e-9)
    # −log q(x|z0) by Bayes
    reference.check("recon_exact_posterior_nats", entropy - information(density, path.lowest), 1e-9)


def as_loss(path: Path, law: Mixture, steps: int) -> Tensor:
    """The expected diffusion term of VDM's objective in T steps, ()."""
    x0, eps = two_points(law)
    t = ((torch.arange(steps).double() + 0.5) / steps).repeat_interleave(len(x0))
    objective = VDM(Setting(path, WEIGHTS["simple"], Recorded(t), "small", None), steps)
    return objective.diffusion(Oracle(law), x0.repeat(steps, 1), t, eps.repeat(steps, 1)).mean()


def information(law: Mixture, level: Level) -> Tensor:
    """I(x; z) = E log q(z|x) − log p(z), ()."""
    x0, eps = two_points(law)
    z = level.perturb(x0, eps)
    given_x = Normal(level.alpha * x0, (2 * level.log_sigma).expand_as(x0)).log_prob(z)
    return (given_x - law.log_prob(z, level.alpha, level.sigma)).mean()
