"""A drift that is not affine: simulated forward, its score learned from samples, run back.

Score SDE allows any drift, but the kernel q(x_t | x_0) is Gaussian only if the drift is affine in x. In a double well,
dx = −r U′(x) dt + √(2r) dw, there is no α, no σ and no level: x_t is simulated, its score is learned by sliced score
matching, which needs samples only, and the reverse SDE brings them back. Two humps on the barrier roll into the wells
and return.

The slip "subtracting g² ∇log p removes the drift" is run beside it: the reverse SDE has the drift f − g² ∇log p, and
without f the same score leads elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

import logsnr
from logsnr import dynamics, objectives, process
from logsnr.gallery import Check, Exhibit, Setting, above, below, style

RATE, MINIMUM, SHARPNESS, TEMPERATURE, FLOOR = 2.0, 0.9, 3.0, 0.15, 0.08
LAW = logsnr.mixture(torch.tensor([0.4, 0.6]), torch.tensor([[-0.3], [0.5]]), FLOOR)
EDGES = torch.linspace(-2, 2, 41, dtype=torch.float64)


def equilibrium(x: Tensor) -> Tensor:
    """−U′(x), the score of exp(−U): minima near ±0.9, and a parabola far out."""
    return -(x - MINIMUM * torch.tanh(SHARPNESS * x)) / TEMPERATURE


def double_well(steps: int) -> logsnr.Process:
    """f = −r U′(x), g² = 2r, simulated in so many steps."""
    well = logsnr.Dynamics(
        drift=lambda x, t: RATE * equilibrium(x), diffusion=lambda t: torch.full_like(t, (2 * RATE) ** 0.5)
    )
    return logsnr.Process(well, steps)


class Score(nn.Module):
    """s(x, t) = −U′(x) − network(x, t)/√(2rt + 0.08): what the law of x_t has beyond the one it tends to."""

    def __init__(self, width: int) -> None:
        super().__init__()
        layers = (nn.Linear(3, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, 1))
        self.network = nn.Sequential(*layers)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        std = (2 * RATE * t.to(x) + FLOOR).sqrt().unsqueeze(1)
        learned: Tensor = self.network(torch.cat([2 * x, std.log(), std], 1))
        return equilibrium(x) - learned / std


def there_and_back(well: logsnr.Process, score: nn.Module, setting: Setting, steps: int, batch: int) -> Tensor:
    """Learn the score of simulated x_t from samples; then x_0 → x_1 by the SDE, x_1 → x_0 by its reverse."""
    loss, optimizer = objectives.Simulated(well), torch.optim.Adam(score.parameters(), 1e-2)
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for step in range(steps):
        draws = setting.draws(batch, step)
        optimizer.zero_grad()
        loss(score, data(draws), draws).total.mean().backward()
        nn.utils.clip_grad_norm_(score.parameters(), 10.0)
        optimizer.step()
        decay.step()
    score.requires_grad_(False)
    draws = setting.draws(setting.of(20_000, 6000), steps)
    x1 = well.simulate(data(draws), torch.ones(len(draws.index), dtype=torch.float64), draws)
    return torch.stack([x1, *process.reverse(well, score, x1, setting.of(200, 80), draws)])


def data(draws: logsnr.Draws) -> Tensor:
    """x_0, (B, 1) float32."""
    second = draws.uniform("hump") > LAW.weights[0]
    noise = draws.normal("x0", torch.empty(len(draws.index), 1))
    return (LAW.means[second.long()] + FLOOR**0.5 * noise).float()


def variation(samples: Tensor) -> float:
    """Total variation distance to the data's law, over bins of 0.1 and what lies outside."""
    masses = (LAW.weights.unsqueeze(1) * torch.special.ndtr((EDGES - LAW.means) / FLOOR**0.5).diff()).sum(0)
    shares = torch.histogram(samples.flatten().double(), EDGES).hist / len(samples)
    return float(0.5 * ((shares - masses).abs().sum() + (shares.sum() - masses.sum()).abs()))


@dataclass(frozen=True)
class Found:
    """forward, back: states (steps + 1, count, 1). without_drift: the end of the slip. floor: of exact samples.

    kurtosis: of q(x_1 | x_0 = 0).
    """

    forward: Tensor
    back: Tensor
    without_drift: Tensor
    floor: float
    kurtosis: float


def measure(setting: Setting) -> Found:
    """The way there, the way back, and the way back without f."""
    well = double_well(setting.of(50, 30))
    with torch.random.fork_rng():
        torch.manual_seed(setting.seed)
        score = Score(64)
    back = there_and_back(well, score, setting, setting.of(1500, 400), setting.of(1024, 512))
    draws = setting.draws(back.shape[1], 10_000)
    forward, times = [data(draws)], torch.linspace(0, 1, 101, dtype=torch.float64)
    for t, s in pairwise(times):
        mean, std = dynamics.euler_maruyama(well.dynamics, 0.0, forward[-1], t, s)
        forward.append(mean + std * draws.normal(f"forward/{float(t):.2f}", mean))
    still = logsnr.Process(logsnr.Dynamics(lambda x, t: torch.zeros_like(x), well.dynamics.diffusion), well.steps)
    *_, lost = process.reverse(still, score, back[0], len(back) - 1, draws)
    top = well.simulate(torch.zeros(back.shape[1], 1), torch.ones(back.shape[1], dtype=torch.float64), draws)
    kurtosis = float((top**4).mean() / (top**2).mean() ** 2)
    return Found(torch.stack(forward), back, lost, variation(forward[0]), kurtosis)


def checks(found: Found) -> tuple[Check, ...]:
    """Back is near the data; x_1 was far from it; without f it is not reached."""
    back, lost = variation(found.back[-1]), variation(found.without_drift)
    return (
        below("total variation of the reverse SDE's samples to the data", back, 0.1),
        below("the same of as many exact samples: noise of the figure", found.floor, 0.05),
        above("the same of x_1, before the way back", variation(found.back[0]), 0.3),
        above("the slip, f left out of the reverse SDE: total variation more than with f", lost - back, 0.02),
        below("kurtosis of q(x_1 | x_0 = 0): a normal, the kernel of an affine drift, has 3", found.kurtosis, 2),
    )


def draw(found: Found, figure: Figure) -> None:
    """Densities over time with a few paths, there and back; the ends."""
    axes = figure.subplots(1, 3, width_ratios=[1, 1, 0.8], sharey=True)
    ways = ((found.forward, torch.linspace(0, 1, len(found.forward))), (found.back, _times(len(found.back))))
    for one, (states, t), title in zip(axes, ways, ("forward, simulated", "back, by the learned score"), strict=False):
        inner = states[:: max(1, len(states) // 50), :, 0]
        density = torch.stack([torch.histogram(x.double(), EDGES, density=True).hist for x in inner], 1)
        one.pcolormesh(
            t[:: max(1, len(states) // 50)], (EDGES[1:] + EDGES[:-1]) / 2, density, vmax=0.9, shading="nearest"
        )
        one.plot(t, states[:, :6, 0], color="C3", linewidth=0.8)
        one.set(xlabel="time t", title=title, ylim=(-2, 2))
        one.grid(visible=False)
    axes[0].set_ylabel("x")
    axes[1].set_xlim(1, 0)
    x = torch.linspace(-2, 2, 300, dtype=torch.float64)
    axes[2].hist(found.back[-1].flatten(), EDGES, density=True, orientation="horizontal", alpha=0.5, label="came back")
    axes[2].plot(
        LAW.log_prob(x.unsqueeze(1), torch.ones(()), torch.zeros(())).exp(), x, color=style.ink(), label="data"
    )
    for states, colour, text in ((found.back[0], "C1", "x at t = 1"), (found.without_drift, "C6", "back without f")):
        density = torch.histogram(states.flatten().double(), EDGES, density=True).hist
        axes[2].stairs(density, EDGES, orientation="horizontal", color=colour, label=text)
    axes[2].set(xlabel="density", title=f"total variation {variation(found.back[-1]):.3f}", xlim=(0, 1.9))
    axes[2].legend(loc="upper right")


def _times(count: int) -> Tensor:
    return double_well(1).times(torch.linspace(1, 0, count, dtype=torch.float64))


EXHIBIT = Exhibit("Score SDE, §3.3; sliced score matching", ("S2", "S5", "N5"), measure, checks, draw, there_and_back)
