"""In continuous time only the ends of the noise schedule matter.

VDM: with v = SNR(t) the diffusion loss is L_∞ = ½ E ∫ |x − x̃(z_v, v)|² dv, from SNR_min to SNR_max: γ(t) no longer
occurs. So a line, DDPM's linear β, a cosine and a learned curve with equal ends have one L_∞, here that of the exact
denoiser; by the theorem of Guo, Shamai and Verdú it is the information I(x; z_0) − I(x; z_1), which is computed without
any denoiser. And two networks trained under two schedules are one model after t = SNR⁻¹(v).

Three things are not invariant, and are shown to move: the variance of the estimate, the loss in T = 10 steps, and L_∞
itself when an end is moved. A network that is told the other schedule's t as if it were its own loses bits.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from matplotlib.figure import Figure
from torch import Tensor

import logsnr
from logsnr import data, denoiser, likelihood, nets, prediction, schedules
from logsnr.gallery import Check, Exhibit, Setting, above, below, mean, standard_error, style

END, NETS_END = 9.0, 3.0
LAW = logsnr.mixture(torch.tensor([0.3, 0.7]), torch.tensor([[-1.0], [1.0]]), 0.04)
LATTICE, CHANCES = data.Lattice(-1.0, 2.0, 2), torch.tensor([0.3, 0.7]).double()


def drawn(path: logsnr.Path, setting: Setting, steps: int | None = None) -> Tensor:
    """Draws of the diffusion loss of the exact denoiser in `steps` steps, or of L_∞ = ½ E γ′(t) |ε − ε̂|²; (n,) nats."""
    count = setting.of(200_000, 40_000)
    bound = likelihood.BOUNDS["vdm"](path, "small", None, steps=steps)
    with torch.no_grad():
        x0, denoise = LAW.sample(count, setting.seed), logsnr.Oracle(LAW)
        return bound.estimate(denoise, x0, setting.draws(count)).parts["diffusion"]


def information(level: logsnr.Level) -> float:
    """I(x; z) = h(z) − h(z | x) in nats, by the trapezoidal rule."""
    z = torch.linspace(-8, 8, 40_001, dtype=torch.float64)
    log_density = LAW.log_prob(z.unsqueeze(1), level.alpha, level.sigma)
    entropy = -torch.trapezoid(log_density.exp() * log_density, z)
    return float(entropy - 0.5 * (math.log(2 * math.pi * math.e) + 2 * level.log_sigma))


def beta_linear(end: float) -> logsnr.BetaLinear:
    """γ of the linear β of DDPM, cut to run from −end to end: ∫β = log(1 + e^γ) there."""
    first, last, beta_min = math.log1p(math.exp(-end)), math.log1p(math.exp(end)), 0.1
    slope = 2 * (last - beta_min)
    return logsnr.BetaLinear(
        beta_min, beta_min + slope, t_min=(math.sqrt(beta_min**2 + 2 * slope * first) - beta_min) / slope
    )


def learned(setting: Setting) -> logsnr.NoiseSchedule:
    """VDM's monotone network, its interior trained to lower the variance of the estimate."""
    schedule = schedules.SCHEDULES["learned"](-END, END, ends="pinned", width=64)
    bound = likelihood.BOUNDS["vdm"](logsnr.Path(schedule, logsnr.vp), "small", None)
    optimizer = torch.optim.Adam(schedule.parameters(), lr=0.03, betas=(0.9, 0.99))
    for step in range(setting.of(150, 80)):
        x0 = LAW.sample(256, seed=10**6 * setting.seed + step)
        loss = bound.estimate(logsnr.Oracle(LAW), x0, setting.draws(256, step)).total.mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(schedule.parameters(), 0.1)
        optimizer.step()
    return schedule.requires_grad_(False)


def trained(path: logsnr.Path, setting: Setting) -> logsnr.Denoiser:
    """A small perceptron that is told t, trained by the bound on values of a lattice."""
    with torch.random.fork_rng():
        torch.manual_seed(setting.seed)
        network = nets.build("mlp-tiny", (1,))
    model = logsnr.Denoiser(network, path, prediction.TARGETS["eps"], label=denoiser.LABELS["time"])
    bound, steps = likelihood.BOUNDS["vdm"](path, "small", LATTICE), setting.of(600, 110)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 0.01 * (1 - step / steps)
        loss = bound.estimate(model, values(512, setting, step), setting.draws(512, step)).total.mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    return model.eval()


def values(count: int, setting: Setting, step: int) -> Tensor:
    """Examples (count, 1) of the lattice."""
    place = torch.searchsorted(CHANCES.cumsum(0), setting.draws(count, step).uniform("value")).clamp(max=1)
    return LATTICE.values(place).unsqueeze(1)


def audited(model: logsnr.Denoiser | logsnr.Oracle, path: logsnr.Path, setting: Setting) -> likelihood.Estimate:
    """The continuous bound of a network at γ uniform between the ends: at each its own t = SNR⁻¹(v) is found for it."""
    count, step = setting.of(60_000, 8_000), 1_000_000
    with torch.no_grad():
        bound = likelihood.vlb_inf(path, "small", LATTICE)
        return bound.estimate(model, values(count, setting, step), setting.draws(count, step))


@dataclass(frozen=True)
class Found:
    """curves: γ at 200 times; nats, in_ten: draws of L_∞ and L_10; moved: of L_∞ with one end moved. By schedule.

    audits: of the networks, by the schedule they were trained under; confused: told the other's times.
    """

    curves: dict[str, tuple[Tensor, Tensor]]
    nats: dict[str, Tensor]
    in_ten: dict[str, Tensor]
    moved: Tensor
    truth: float
    audits: dict[str, likelihood.Estimate]
    confused: dict[str, Tensor]


def measure(setting: Setting) -> Found:
    """Four schedules with the exact denoiser; two networks."""
    curves = {"linear": logsnr.Linear(-END, END), "linear β": beta_linear(END)}
    curves |= {"cosine": logsnr.Cosine(max_log_snr=END), "learned": learned(setting)}
    paths = {name: logsnr.Path(curve, logsnr.vp) for name, curve in curves.items()}
    ends = paths["linear"].lowest, paths["linear"].highest
    pair = {"linear": logsnr.Linear(-NETS_END, NETS_END), "linear β": beta_linear(NETS_END)}
    homes = {name: logsnr.Path(curve, logsnr.vp) for name, curve in pair.items()}
    models = {name: trained(home, setting) for name, home in homes.items()}
    foreign = {
        name: logsnr.Denoiser(model.network, homes[other], model.target, label=model.label)
        for (name, model), other in zip(models.items(), reversed(homes), strict=True)
    }
    exact = logsnr.Oracle(logsnr.mixture(CHANCES, LATTICE.values(torch.arange(2)).unsqueeze(1), 0.0))
    return Found(
        {name: _curve(path) for name, path in paths.items()},
        {name: drawn(path, setting) for name, path in paths.items()},
        {name: drawn(path, setting, steps=10) for name, path in paths.items()},
        drawn(logsnr.Path(logsnr.Linear(1 - END, END), logsnr.vp), setting),
        information(ends[0]) - information(ends[1]),
        {name: audited(model, homes["linear"], setting) for name, model in {**models, "exact": exact}.items()},
        {name: audited(model, homes["linear"], setting).total for name, model in foreign.items()},
    )


def _curve(path: logsnr.Path) -> tuple[Tensor, Tensor]:
    t = torch.linspace(path.schedule.t_min, 1, 200, dtype=torch.float64)
    return t, path.at(t).gamma


def checks(found: Found) -> tuple[Check, ...]:
    """What is invariant, what is not, and the two networks."""
    means = {name: float(nats.mean()) for name, nats in found.nats.items()}
    errors = {name: standard_error(nats) for name, nats in found.nats.items()}
    pairs = [(a, b) for a in means for b in means if a < b]
    apart = max(abs(means[a] - means[b]) / standard_error(found.nats[a] - found.nats[b]) for a, b in pairs)
    off = max(abs(means[name] - found.truth) / errors[name] for name in means)
    variances, in_ten = ([f(nats) for nats in of.values()] for f, of in ((_var, found.nats), (mean, found.in_ten)))
    by_end = means["linear"] - mean(found.moved)
    one, other = (audit.total / math.log(2) for name, audit in found.audits.items() if name != "exact")
    gap, lost = one - other, torch.stack(list(found.confused.values())).mean(0) / math.log(2) - 0.5 * (one + other)
    return (
        below("largest distance of two L_∞ under four schedules, in standard errors of the pair", apart, 3),
        below(f"largest distance of one from I(x; z₀) − I(x; z₁) = {found.truth:.3f} nats, in standard errors", off, 3),
        above("variance of a draw, largest over smallest", max(variances) / min(variances), 5),
        above(
            "L_∞ lost by moving γ₀ up by 1, in standard errors",
            by_end / math.hypot(errors["linear"], standard_error(found.moved)),
            5,
        ),
        above("L_10, which is not invariant: largest over smallest", max(in_ten) / min(in_ten), 1.3),
        below(
            "two networks, two schedules, read at t = SNR⁻¹(v): gap in bits/dim",
            abs(mean(gap)),
            0.03,
            standard_error(gap),
        ),
        above("bits/dim lost if told the other schedule's t", mean(lost), 0.01, standard_error(lost)),
    )


def _var(nats: Tensor) -> float:
    return float(nats.var())


def draw(found: Found, figure: Figure) -> None:
    """The curves, their bounds with the spread of a draw, and what the two networks leave of the noise."""
    left, middle, right = figure.subplots(1, 3)
    figure.set_size_inches(10.2, 3.8)
    for i, (name, (t, gamma)) in enumerate(found.curves.items()):
        left.plot(t, gamma, color=f"C{i}", label=name)
        nats = found.nats[name]
        middle.errorbar(mean(nats), i, xerr=3 * standard_error(nats), fmt="o", capsize=4, color=f"C{i}")
    moved = len(found.curves)
    middle.errorbar(mean(found.moved), moved, xerr=3 * standard_error(found.moved), fmt="o", capsize=4, color="C6")
    middle.axvline(found.truth, color=style.ink(), linewidth=1, label="I(x; z₀) − I(x; z₁)")
    spread = [f"{name}\nvariance {_var(nats):,.0f}" for name, nats in found.nats.items()]
    middle.set_yticks(range(moved + 1), [*spread, "line, moved:\n−8 to 9"])
    middle.set(xlabel="L_∞ in nats, ± 3 standard errors", ylim=(moved + 1.2, -0.7), title="equal ends, one L_∞")
    middle.legend(loc="lower left")
    left.set(xlabel="t", ylabel="γ = −log SNR", title="four schedules")
    left.legend(loc="upper left")
    for name, colour, line in (("exact", style.ink(), "-"), ("linear", "C0", "o"), ("linear β", "C1", "x")):
        audit = found.audits[name]
        edges = torch.linspace(-NETS_END, NETS_END, 25, dtype=torch.float64)
        place = torch.bucketize(audit.gamma[:, 0], edges[1:-1])
        total = torch.zeros(24, dtype=torch.float64).index_add(0, place, audit.nats[:, 0].double())
        bits = total / place.bincount(minlength=24) / math.log(2) / (2 * NETS_END)
        words = f"{mean(audit.total) / math.log(2):.3f} bits/dim: " + (
            "exact" if name == "exact" else f"trained under {name}"
        )
        right.plot(-(edges[1:] + edges[:-1]) / 2, bits, line, color=colour, label=words)
    right.set(xlabel="log SNR", ylabel="bits/dim per unit of log SNR", title="two networks, read at t = SNR⁻¹(v)")
    right.set_ylim(0, 1.45 * right.get_ylim()[1])
    right.legend(loc="upper left")


EXHIBIT = Exhibit("VDM, sections 4.1–5.1, eq. 15–18", ("V6", "V7", "V8"), measure, checks, draw, drawn)
