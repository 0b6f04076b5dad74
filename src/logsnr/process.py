"""A process by simulation: any drift f(x, t) and diffusion g(t), without a closed form for anything (S5).

    dx = f(x, t) dt + g(t) dw,    t from 0 (data) to 1

If f is not affine in x, the kernel q(x_t | x0) is no Gaussian: no α, no σ, no level. What is left is enough. x_t is
simulated by Euler–Maruyama from the data; the score of its law is trained by sliced score matching, which needs samples
only (`objectives.simulated`); and the reverse SDE needs that score (S2; Anderson 1982),

    dx = [f(x, t) − g(t)² ∇log p_t(x)] dt + g(t) dw̄,

run from t = 1 with Euler–Maruyama again. It starts from a known law of x_1, or from data that was simulated forward.

Whatever needs a level (denoisers, ε, log-SNR grids, likelihoods of the bound) refuses a process by name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from logsnr.draws import Draws
from logsnr.dynamics import Dynamics, euler_maruyama

Score = Callable[[Tensor, Tensor], Tensor]  # (x (B, *), t (B,)) → ∇log p_t(x), (B, *)
_NUMBERS_A_DRAW = 4096
CLOSED_FORMS = frozenset(
    {"at", "at_gamma", "slope", "perturb", "time_of", "time_of_level", "grid", "lowest", "highest", "prior_std",
     "schedule", "scale"}
)  # fmt: skip


@dataclass(frozen=True)
class Process:
    """`dynamics` on t in [0, 1], simulated in `steps` Euler–Maruyama steps to any time.

    t_min: the lowest time that is trained and where the reverse SDE ends; the score blows up at the data.
    """

    dynamics: Dynamics
    steps: int = 100
    t_min: float = 1e-3

    def __post_init__(self) -> None:
        if self.steps < 1 or not 0 < self.t_min < 1:
            raise ValueError(f"steps = {self.steps}, t_min = {self.t_min}; allowed: at least 1, in (0, 1)")

    def __getattr__(self, name: str) -> Any:
        if name in CLOSED_FORMS:
            raise ValueError(
                f"a simulated Process has no closed-form level, so no {name!r}; allowed: objectives.Simulated and "
                "process.reverse, or a Path"
            )
        raise AttributeError(f"'Process' has no attribute {name!r}")

    def times(self, u: Tensor) -> Tensor:
        """t_min + (1 − t_min) u² for u in [0, 1]: closer together near the data, where the score is large."""
        return self.t_min + (1 - self.t_min) * u**2

    def simulate(self, x0: Tensor, t: Tensor, draws: Draws) -> Tensor:
        """A sample of x_t given x0 (B, *), each example at its own t (B,), float64: `steps` steps of t/steps."""
        x, dt = x0, t / self.steps
        for n, noise in enumerate(self._noises(x0, draws)):
            now = n * dt
            mean, std = euler_maruyama(self.dynamics, 0.0, x, now, now + dt)
            x = mean + std * noise
        return x

    def _noises(self, like: Tensor, draws: Draws) -> Iterator[Tensor]:
        """Normals (B, *) for each step, many steps to a draw where examples are small: each draw has a price."""
        block = max(1, _NUMBERS_A_DRAW // max(1, like[0].numel()))
        for first in range(0, self.steps, block):
            count = min(block, self.steps - first)
            shape = (len(like), count, *like.shape[1:])
            yield from draws.normal(f"process/{first}", like.new_empty(shape)).unbind(1)

    def noise_std(self, t: Tensor) -> Tensor:
        """√∫₀ᵗ g² by the midpoint rule: the std of x_t − x0 without drift, 1/the size of the score at small t."""
        middle = (torch.arange(self.steps, dtype=t.dtype) + 0.5) / self.steps
        return (t * (self.dynamics.diffusion(t.unsqueeze(-1) * middle) ** 2).mean(-1)).sqrt()


def reverse(process: Process, score: Score, x: Tensor, steps: int, draws: Draws) -> Iterator[Tensor]:
    """The states (B, *) of the reverse SDE from x at t = 1 down to t_min, after each of `steps` steps."""
    times = process.times(torch.linspace(1, 0, steps + 1, dtype=torch.float64))
    for n in range(steps):
        t = times[n].expand(len(x))
        mean, std = euler_maruyama(process.dynamics, score(x, t), x, t, times[n + 1])
        x = mean + std * draws.normal(f"reverse/{n}", x)
        yield x
