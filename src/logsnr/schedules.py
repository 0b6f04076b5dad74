"""Noise schedules: γ(t) = −log SNR(t), strictly increasing on [0, 1] from the data end to the noise end.

A schedule says *when* a noise level is visited. It is a module so that a learned γ is trained and saved with the rest;
the fixed ones below hold Python numbers or float64 CPU tensors that no `.to()` moves, and their derivative is taken by
forward-mode differentiation (`Path.slope`), never written down twice.

    Linear      γ₀ + (γ₁ − γ₀) t                                  VDM, appendix D; geometric σ is this line too
    BetaLinear  the γ whose log α is −½∫β, β = β₀ + (β₁ − β₀) t   Score SDE, eq. 32 (vp) and 29 (sub_vp)
    Cosine      log (1 − ᾱ)/ᾱ of Improved DDPM, eq. 17, bounded smoothly at ±the given log-SNR
    Straight    2 log t/(1 − t): on the straight scale α = 1 − t and σ = t, both ends legal       flow matching
    Table       T knots t_i = i/T, monotone cubic between them    DDPM, Improved DDPM, NCSN: any list of levels
    Learned     γ₀ + (γ₁ − γ₀) s(t), s a monotone network         VDM, appendix H: exact ends, pinned or learned

`t_min` is the lowest time at a finite level. Below it lies only t = 0, the clean level (γ = −∞) of the schedules that
reach it; a table has nothing between t = 0 and its first knot.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from logsnr.betas import BETAS
from logsnr.monotone import Monotone, inverse_softplus, softplus
from logsnr.registry import lookup
from logsnr.scales import SCALES, Scale


class NoiseSchedule(nn.Module, ABC):
    """γ(t). Subclasses define `forward` and set `t_min`; `steps` is T for a table and None in continuous time."""

    t_min: float = 0.0
    steps: int | None = None

    @abstractmethod
    def forward(self, t: Tensor) -> Tensor:
        """γ at times `t` in [0, 1], any shape, float64 on the CPU for fixed schedules; −∞ at a clean t = 0."""

    def moving(self, t: Tensor, through: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
        """(γ, γ′) at times t; `through` is applied to what is learned of them between the ends: here to nothing."""
        gamma, slope = torch.func.jvp(self, (t,), (torch.ones_like(t),))[:2]
        return gamma, slope


@torch.no_grad()
def time_of(schedule: NoiseSchedule, gamma: Tensor) -> Tensor:
    """The time at which γ(t) = gamma, by bisection to the last bit; clamped to [t_min, 1], 0 for γ = −∞."""
    low = torch.full_like(gamma, schedule.t_min)
    high = torch.ones_like(gamma)
    for _ in range(60):
        middle = 0.5 * (low + high)
        above = schedule(middle) > gamma
        low, high = torch.where(above, low, middle), torch.where(above, middle, high)
    t = torch.where(gamma >= schedule(torch.ones_like(gamma)), torch.ones_like(gamma), high)
    t = torch.where(gamma <= schedule(torch.full_like(gamma, schedule.t_min)), schedule.t_min, t)
    return torch.where(torch.isneginf(gamma), 0.0, t)


class Linear(NoiseSchedule):
    """γ(t) = γ_min + (γ_max − γ_min) t (VDM's fixed schedule, [−13.3, 5] for 8-bit images)."""

    def __init__(self, gamma_min: float = -13.3, gamma_max: float = 5.0) -> None:
        super().__init__()
        if not -math.inf < gamma_min < gamma_max < math.inf:
            raise ValueError(f"gamma_min={gamma_min}, gamma_max={gamma_max}; allowed: finite, gamma_min < gamma_max")
        self.gamma_min, self.gamma_max = gamma_min, gamma_max

    def forward(self, t: Tensor) -> Tensor:
        return self.gamma_min + (self.gamma_max - self.gamma_min) * t


def geometric(sigma_min: float = 0.01, sigma_max: float = 50.0) -> Linear:
    """σ_t = σ_min (σ_max/σ_min)^t in VE units (NCSN; Score SDE, eq. 30): a line in γ = 2 log σ."""
    if not 0 < sigma_min < sigma_max:
        raise ValueError(f"sigma_min={sigma_min}, sigma_max={sigma_max}; allowed: 0 < sigma_min < sigma_max")
    return Linear(2 * math.log(sigma_min), 2 * math.log(sigma_max))


class BetaLinear(NoiseSchedule):
    """∫₀ᵗβ = β_min t + ½ (β_max − β_min) t², log α = −½∫β, and γ follows from the scale (vp or sub_vp)."""

    def __init__(
        self, beta_min: float = 0.1, beta_max: float = 20.0, scale: str | Scale = "vp", t_min: float = 1e-5
    ) -> None:
        super().__init__()
        scale = SCALES[scale] if isinstance(scale, str) else scale
        if not 0 < beta_min <= beta_max:
            raise ValueError(f"beta_min={beta_min}, beta_max={beta_max}; allowed: 0 < beta_min <= beta_max")
        if scale.gamma is None:
            raise ValueError(f"scale {scale.name!r} keeps α = 1, so no β is defined; allowed: vp, sub_vp, straight")
        self.beta_min, self.beta_max, self.t_min = beta_min, beta_max, t_min
        self.gamma_of_log_alpha = scale.gamma

    def forward(self, t: Tensor) -> Tensor:
        integral = self.beta_min * t + 0.5 * (self.beta_max - self.beta_min) * t**2
        return self.gamma_of_log_alpha(-0.5 * integral)


class Cosine(NoiseSchedule):
    """γ = log (1 − ᾱ + δ)/(ᾱ + δ), ᾱ = cos²θ/cos²θ₀, θ = (t + s)/(1 + s) · π/2 (Improved DDPM, eq. 17).

    δ = 1/(e^c − 1) bounds the log-SNR at exactly ±c at the two ends. The original clips β at 0.999 instead
    (`betas.cosine`), which is a bound that depends on T.
    """

    def __init__(self, offset: float = 0.008, max_log_snr: float = 20.0) -> None:
        super().__init__()
        if not (offset > 0 and 0 < max_log_snr < 36):
            raise ValueError(f"offset={offset}, max_log_snr={max_log_snr}; allowed: offset > 0, 0 < max_log_snr < 36")
        self.offset, self.delta = offset, 1 / math.expm1(max_log_snr)

    def forward(self, t: Tensor) -> Tensor:
        start = self.offset / (1 + self.offset) * math.pi / 2
        angle = (t + self.offset) / (1 + self.offset) * math.pi / 2
        # cos²θ₀ − cos²θ as a product keeps the digits that the difference would lose near t = 0
        alpha_bar = torch.cos(angle) ** 2 / math.cos(start) ** 2
        noise = torch.sin(angle - start) * torch.sin(angle + start) / math.cos(start) ** 2
        return torch.log(noise + self.delta) - torch.log(alpha_bar + self.delta)


class Straight(NoiseSchedule):
    """γ(t) = 2 log(t/(1 − t)), so that α = 1 − t, σ = t on the straight scale (Lipman et al. 2023; Liu et al. 2023).

    t = 0 is the clean level, t = 1 is pure noise, γ = +∞. t_min: the lowest time that a grid visits.
    """

    def __init__(self, t_min: float = 1e-3) -> None:
        super().__init__()
        if not 0 < t_min < 1:
            raise ValueError(f"t_min = {t_min}; allowed: 0 < t_min < 1")
        self.t_min = t_min

    def forward(self, t: Tensor) -> Tensor:
        return 2 * (torch.log(t) - torch.log1p(-t))


class Table(NoiseSchedule):
    """γ through T knots at t_i = i/T, i = 1 … T: monotone cubic between them (Fritsch and Butland 1984).

    Exact at the knots, so a process of T steps is its published table; t = 0 is the clean level.
    """

    def __init__(self, gammas: Tensor) -> None:
        super().__init__()
        gammas = gammas.detach().to(torch.float64).cpu()
        if gammas.ndim != 1 or len(gammas) < 2:
            raise ValueError(f"a table of shape {tuple(gammas.shape)}; allowed: (T,) with T >= 2")
        if not (gammas.isfinite().all() and (gammas.diff() > 0).all()):
            raise ValueError("the table's γ is not finite and strictly increasing; allowed: finite, increasing noise")
        self.steps, self.t_min = len(gammas), 1 / len(gammas)
        self.gammas, self.slopes = gammas, _monotone_slopes(gammas)

    def forward(self, t: Tensor) -> Tensor:
        last = len(self.gammas) - 1
        place = t * (last + 1) - 1  # in units of the knot spacing, from the first knot
        # t = i/T is rounded: without this a knot would be missed by the last bit, and the clamp would flatten the first
        off = (place.round() - place).detach()
        place = (place + torch.where(off.abs() < 1e-9, off, 0.0)).clamp(0, last)
        left = place.detach().floor().long().clamp(max=last - 1)
        w = place - left
        y0, y1, m0, m1 = self.gammas[left], self.gammas[left + 1], self.slopes[left], self.slopes[left + 1]
        value = y0 + w * (m0 + w * ((3 * (y1 - y0) - 2 * m0 - m1) + w * (2 * (y0 - y1) + m0 + m1)))
        return torch.where(t == 0, -torch.inf, value)


def _monotone_slopes(y: Tensor) -> Tensor:
    """Knot slopes of a monotone cubic with unit spacing: harmonic means inside, a limited parabola at the ends."""
    d = y.diff()
    if len(d) == 1:
        return d.expand(2)
    inside = 2 * d[:-1] * d[1:] / (d[:-1] + d[1:])
    first = (1.5 * d[0] - 0.5 * d[1]).clamp(0, 3 * float(d[0]))
    final = (1.5 * d[-1] - 0.5 * d[-2]).clamp(0, 3 * float(d[-1]))
    return torch.cat([first.reshape(1), inside, final.reshape(1)])


class Learned(NoiseSchedule):
    """γ(t) = γ₀ + (γ₁ − γ₀) s(t), s(t) = (γ̃(t) − γ̃(0))/(γ̃(1) − γ̃(0)): the ends are exact at every step of training.

    interior: γ̃, an increasing module of t; None for s = t. ends: "pinned", or "learned": parameters too, as shifts
    from where they start, their distance through a softplus, so that they never cross. gamma_min: None for the noise
    that is to the data's distance of values, `levels` of them in [−1, 1], what VDM's −13.3 is to that of 8 bits.
    """

    def __init__(
        self,
        interior: nn.Module | None,
        gamma_min: float | None = None,
        gamma_max: float = 5.0,
        *,
        ends: str = "learned",
        levels: int = 256,
    ) -> None:
        super().__init__()
        low = -13.3 + 2 * math.log(255 / (levels - 1)) if gamma_min is None else gamma_min
        if ends not in ("pinned", "learned") or not -math.inf < low < gamma_max < math.inf:
            allowed = "allowed: ends pinned or learned, finite gamma_min < gamma_max"
            raise ValueError(f"ends={ends!r}, gamma_min={low:.6g}, gamma_max={gamma_max}; {allowed}")
        self.interior, self.low = interior, low
        self.width = inverse_softplus(torch.tensor(gamma_max - low, dtype=torch.float64))
        self.shifts = nn.Parameter(torch.zeros(2)) if ends == "learned" else torch.zeros(2)

    def shape(self, t: Tensor) -> Tensor:
        """s(t), of the shape of t."""
        if self.interior is None:
            return t
        ends = self.interior(torch.tensor([0.0, 1.0]).to(t))
        return (self.interior(t) - ends[0]) / (ends[1] - ends[0])

    def place(self, shape: Tensor) -> Tensor:
        """γ of s."""
        low, width = self.shifts.to(shape)
        return self.low + low + softplus(self.width.to(shape) + width) * shape

    def forward(self, t: Tensor) -> Tensor:
        return self.place(self.shape(t))

    def moving(self, t: Tensor, through: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
        """(γ, γ′); `through` meets s(t) and s′(t), by which alone the interior's parameters act, and only they."""
        shape, slope = map(through, torch.func.jvp(self.shape, (t,), (torch.ones_like(t),))[:2])
        gamma, slope = torch.func.jvp(self.place, (shape,), (slope,))[:2]
        return gamma, slope


def _learned(
    gamma_min: float | None = None,
    gamma_max: float = 5.0,
    *,
    ends: str = "learned",
    levels: int = 256,
    init: str = "linear",
    width: int = 1024,
) -> Learned:
    """The monotone network, started in the shape of the schedule named `init`."""
    interior, guide = Monotone(width), lookup(SCHEDULES, init, "schedule")()
    low, high = guide(torch.tensor([guide.t_min, 1.0], dtype=torch.float64)).detach()
    interior.fit(lambda t: (guide(guide.t_min + (1 - guide.t_min) * t) - low) / (high - low))
    return Learned(interior, gamma_min, gamma_max, ends=ends, levels=levels)


def table_of_betas(betas: Tensor) -> Table:
    """γ_t = log (1 − ᾱ_t)/ᾱ_t with ᾱ_t = Π_{s<=t} (1 − β_s) (DDPM, eq. 4). betas: (T,), each in (0, 1)."""
    bad = ((betas <= 0) | (betas >= 1)).nonzero().flatten()
    if len(bad):
        index = int(bad[0])
        raise ValueError(
            f"beta_{index + 1} = {float(betas[index]):.6g} of a table of {len(betas)}; allowed: 0 < beta < 1 "
            "(a larger T, or smaller ends)"
        )
    # −log ᾱ is a sum of small positive terms: no digit is lost, where 1 − cumprod loses them all near t = 0
    minus_log_alpha_bar = -torch.log1p(-betas.double()).cumsum(0)
    return Table(torch.log(torch.expm1(minus_log_alpha_bar)))


def _beta_table(betas: str = "linear", num_diffusion_steps: int = 1000, **options: float) -> Table:
    table = lookup(BETAS, betas, "beta table")
    if num_diffusion_steps < 2:
        raise ValueError(f"num_diffusion_steps = {num_diffusion_steps}; allowed: at least 2")
    return table_of_betas(table(num_diffusion_steps, **options))


def _cosine_table(num_diffusion_steps: int = 1000, offset: float = 0.008, max_log_snr: float = 20.0) -> Table:
    """The closed-form cosine at T knots; a smooth bound of the log-SNR stands for the β clip of the original."""
    if num_diffusion_steps < 2:
        raise ValueError(f"num_diffusion_steps = {num_diffusion_steps}; allowed: at least 2")
    knots = torch.arange(1, num_diffusion_steps + 1, dtype=torch.float64) / num_diffusion_steps
    return Table(Cosine(offset, max_log_snr)(knots))


def _sigma_table(
    sigma_min: float = 0.01, sigma_max: float = 1.0, num_diffusion_steps: int = 10, spacing: str = "geometric"
) -> Table:
    """σ_i at T knots, in VE units: geometric (NCSN, section 4), or "uniform" in σ as its program also has them."""
    if num_diffusion_steps < 2:
        raise ValueError(f"num_diffusion_steps = {num_diffusion_steps}; allowed: at least 2")
    knots = torch.linspace(0, 1, num_diffusion_steps, dtype=torch.float64)
    spaced = {
        "geometric": geometric(sigma_min, sigma_max)(knots),
        "uniform": 2 * torch.log(sigma_min + (sigma_max - sigma_min) * knots),
    }
    return Table(lookup(spaced, spacing, "spacing of σ"))


SCHEDULES: dict[str, Callable[..., NoiseSchedule]] = {
    "linear": Linear,
    "beta_linear": BetaLinear,
    "cosine": Cosine,
    "geometric": geometric,
    "straight": Straight,
    "beta_table": _beta_table,
    "sigma_table": _sigma_table,
    "cosine_table": _cosine_table,
    "learned": _learned,
    "learned_linear": partial(Learned, None),
}
