"""DDPM and NCSN are two stochastic differential equations, seen at T points.

Let T grow. DDPM's chain tends to the variance-preserving SDE and NCSN's to the variance-exploding one, and the distance
between their laws falls like 1/T. The SDEs differ in nothing but their units and their clock. Given the same denoiser,
the probability flows of all five, each solved with its own f and g in its own units, carry one latent to one x_0.

Two slips are shown beside it. More steps with DDPM's own β, 0.0001 to 0.02, are another process, not a finer one: β has
to shrink like 1/T. And NCSN's prior is N(0, σ_max² I): started from N(0, I) its flow misses the data.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from matplotlib.figure import Figure
from torch import Tensor

import logsnr
from logsnr import betas, dynamics, schedules
from logsnr.gallery import Check, Exhibit, Setting, above, below, between, style

STEPS = (100, 300, 1000, 3000, 10_000)
TOP, BOTTOM = 10.0, -9.0  # γ where the flows start and end: levels that all five processes have
SIGMAS = (0.01, 150.0)
LAW = logsnr.mixture(torch.tensor([0.3, 0.3, 0.4]), torch.tensor([[-1.3], [0.2], [1.0]]), 0.06)
VP, VE = logsnr.Path(logsnr.BetaLinear(), logsnr.vp), logsnr.Path(logsnr.geometric(*SIGMAS), logsnr.ve)
SUB_VP = logsnr.Path(logsnr.BetaLinear(scale="sub_vp"), logsnr.sub_vp)
LOOKS = {"VP": ("C0", "-"), "DDPM": ("C0", "."), "VE": ("C1", "-"), "NCSN": ("C1", "."), "sub-VP": ("C2", "--")}


def ddpm(steps: int) -> logsnr.Path:
    """β from 0.1/T to 20/T: the published table at T = 1000."""
    return logsnr.Path(logsnr.table_of_betas(betas.scaled_linear(steps)), logsnr.vp)


def same_betas(steps: int) -> logsnr.Path:
    """The slip: the published ends whatever T is."""
    return logsnr.Path(logsnr.table_of_betas(betas.linear(steps)), logsnr.vp)


def ncsn(steps: int) -> logsnr.Path:
    """T geometric levels."""
    return logsnr.Path(schedules.sigma_table(*SIGMAS, steps), logsnr.ve)


def apart(chain: logsnr.Path, sde: logsnr.Path, steps: int) -> float:
    """The largest W2 distance of q(x_t | x_0), |x_0| = 1, at the chain's T times, in units of the size of x_t."""
    t = torch.arange(1, steps + 1, dtype=torch.float64) / steps
    one, other = chain.at(t), sde.at(t)
    squared = (one.alpha - other.alpha) ** 2 + (one.sigma - other.sigma) ** 2
    return float((squared / (other.alpha**2 + other.sigma**2)).sqrt().max())


def flow(path: logsnr.Path, law: logsnr.Mixture, u: Tensor, steps: int) -> tuple[Tensor, Tensor]:
    """dx = [f x − ½ g² ∇log p_t(x)] dt in the path's own time and units, by Runge and Kutta; x starts at size u."""
    t = path.time_of(torch.linspace(TOP, BOTTOM, steps + 1, dtype=torch.float64))
    stages = torch.stack([t[:-1], (t[:-1] + t[1:]) / 2, t[1:]], 1).flatten()
    sde, level = dynamics.dynamics(path), path.at(stages)
    f, g = sde.drift(torch.ones_like(stages), stages), sde.diffusion(stages)

    def velocity(x: Tensor, i: int) -> Tensor:
        return f[i] * x - 0.5 * g[i] ** 2 * law.score(x, level.alpha[i], level.sigma[i])

    x, states = torch.hypot(level.alpha[0], level.sigma[0]) * u, []
    for n, h in enumerate(t.diff()):
        a = velocity(x, 3 * n)
        b = velocity(x + h / 2 * a, 3 * n + 1)
        c = velocity(x + h / 2 * b, 3 * n + 1)
        d = velocity(x + h * c, 3 * n + 2)
        x = x + h / 6 * (a + 2 * b + 2 * c + d)
        states.append(x / torch.hypot(level.alpha[3 * n + 2], level.sigma[3 * n + 2]))
    return t, torch.stack([u, *states, law.x0_mean(x, level.alpha[-1], level.sigma[-1])])


def share(path: logsnr.Path, gamma: float, u: Tensor) -> Tensor:
    """The share of p_t that lies below x = u √(α² + σ²), at the level γ: a flow carries it along unchanged."""
    level = path.at_gamma(torch.tensor(gamma, dtype=torch.float64))
    x = torch.hypot(level.alpha, level.sigma) * u
    std = (level.alpha**2 * LAW.variances + level.sigma**2).sqrt().T
    return torch.special.ndtr((x - level.alpha * LAW.means.T) / std) @ LAW.weights


@dataclass(frozen=True)
class Found:
    """distances: of each chain to its SDE by T. flows: times and states, in unit power, the last one x_0.

    carried: by flow, the largest difference between the shares of the law below a latent and below where it is led.
    """

    distances: dict[str, list[float]]
    flows: dict[str, tuple[Tensor, Tensor]]
    slip: Tensor
    carried: dict[str, float]

    def order(self, name: str) -> float:
        """Of the distance in 1/T, over two decades."""
        first, last = self.distances[name][0], self.distances[name][-1]
        return math.log(first / last) / math.log(STEPS[-1] / STEPS[0])

    @property
    def spread(self) -> float:
        """Between the x_0 of one latent by any two flows, the largest."""
        ends = torch.stack([states[-1] for _, states in self.flows.values()])
        return float((ends.amax(0) - ends.amin(0)).max())

    @property
    def miss(self) -> float:
        """Of NCSN's flow from N(0, I): the median distance from the x_0 of the same normals."""
        return float((self.slip - self.flows["NCSN"][1][-1]).abs().median())


def measure(setting: Setting) -> Found:
    """Distances for five T, and five flows from the same latents: seven in order, and drawn ones."""
    chains: dict[str, tuple[Callable[[int], logsnr.Path], logsnr.Path]] = {
        "DDPM": (ddpm, VP), "NCSN": (ncsn, VE), "same β": (same_betas, VP),
    }  # fmt: skip
    distances = {name: [apart(chain(T), sde, T) for T in STEPS] for name, (chain, sde) in chains.items()}
    count, steps = setting.of(400, 40), setting.of(600, 400)
    drawn = setting.draws(count).normal("x_T", torch.empty(count, 1, dtype=torch.float64))
    u = torch.cat([torch.linspace(-2.1, 2.1, 7, dtype=torch.float64).unsqueeze(1), drawn])
    paths = {"DDPM": ddpm(10_000), "NCSN": ncsn(1000), "VP": VP, "VE": VE, "sub-VP": SUB_VP}
    flows = {name: flow(path, LAW, u, steps) for name, path in paths.items()}
    carried = {
        name: float((share(path, TOP, flows[name][1][0]) - share(path, BOTTOM, flows[name][1][-2])).abs().max())
        for name, path in paths.items()
    }
    return Found(distances, flows, flow(ncsn(1000), LAW, u * math.exp(-TOP / 2), steps)[1][-1], carried)


def checks(found: Found) -> tuple[Check, ...]:
    """Order one twice, one x_0, and two slips that must be far off."""
    far = found.distances["same β"]
    return (
        below("x_0 of one latent by five probability flows, largest difference", found.spread, 1e-6),
        below(
            "share of the law below a latent less that below where it is led, largest",
            max(found.carried.values()),
            1e-6,
        ),
        between("DDPM to the VP law from T = 100 to 10,000, order in 1/T", found.order("DDPM"), 0.9, 1.1),
        between("NCSN to the VE law from T = 100 to 10,000, order in 1/T", found.order("NCSN"), 0.9, 1.1),
        below("DDPM to the VP law at T = 10,000, W2 in units of x_t", found.distances["DDPM"][-1], 1e-3),
        below("NCSN to the VE law at T = 10,000, W2 in units of x_t", found.distances["NCSN"][-1], 1e-2),
        above("the slip of one β for all T: W2 at T = 10,000 over W2 at 1000", far[-1] / far[2], 10),
        above("the slip of N(0, I) for NCSN: median error of x_0", found.miss, 0.3),
    )


def draw(found: Found, figure: Figure) -> None:
    """The distances as lines of slope −1, and latents on five ways to one x_0."""
    left, right = figure.subplots(1, 2, width_ratios=[1, 1.5])
    for name, colour, text, place in (
        ("NCSN", "C1", "NCSN to VE", (1350, 4.6e-3)),
        ("DDPM", "C0", "DDPM to VP", (110, 1.4e-3)),
        ("same β", "C6", "the slip: one β for every T", (110, 1.5)),
    ):
        left.loglog(STEPS, found.distances[name], "o--" if name == "same β" else "o-", color=colour)
        left.text(*place, text, color=colour)
    left.loglog(STEPS, [0.06 / T for T in STEPS], ":", color=style.ink())
    left.text(110, 6e-5, "slope −1", color=style.ink())
    left.set(xlabel="steps T", ylabel="W2 of the laws of x_t, in units of x_t", ylim=(None, 4))
    left.set_title("a chain is its SDE up to 1/T")
    for name, (colour, line) in LOOKS.items():
        t, states = found.flows[name]
        curves, every = states[:-1, :7, 0], len(t) // 45 if line == "." else 1
        right.plot(t[::every], curves[::every], line, color=colour, markersize=3.5)
        right.plot([], [], line, color=colour, markersize=6, label=name)
    right.plot([0] * 7, found.flows["VP"][1][-1, :7, 0], "D", color=style.ink(), clip_on=False, zorder=5)
    right.set(xlabel="time t of each process", ylabel="x_t in units of its size, √(α² + σ²)", xlim=(1, 0))
    right.set_title(f"five flows, one x₀ for each latent, within {found.spread:.0e}")
    right.set_ylim(-2.8, 2.3)
    right.legend(loc="lower center", ncols=5, columnspacing=1.2, handlelength=1.6)


EXHIBIT = Exhibit("Score SDE, §3.1, eq. 13 and appendix B", ("S1", "S3", "S11"), measure, checks, draw, flow)
