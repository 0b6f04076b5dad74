"""Schedules of T levels: any list of γ, and the lists that the papers publish as β or σ."""

from __future__ import annotations

import torch
from torch import Tensor

from logsnr.betas import BETAS
from logsnr.registry import lookup
from logsnr.schedules.curves import Cosine, geometric
from logsnr.schedules.schedule import NoiseSchedule


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


def beta_table(betas: str = "linear", num_diffusion_steps: int = 1000, **options: float) -> Table:
    """The table of the β named `betas` (DDPM, section 4; Improved DDPM, eq. 17), of T = num_diffusion_steps."""
    table = lookup(BETAS, betas, "beta table")
    if num_diffusion_steps < 2:
        raise ValueError(f"num_diffusion_steps = {num_diffusion_steps}; allowed: at least 2")
    return table_of_betas(table(num_diffusion_steps, **options))


def cosine_table(num_diffusion_steps: int = 1000, offset: float = 0.008, max_log_snr: float = 20.0) -> Table:
    """The closed-form cosine at T knots; a smooth bound of the log-SNR stands for the β clip of the original."""
    if num_diffusion_steps < 2:
        raise ValueError(f"num_diffusion_steps = {num_diffusion_steps}; allowed: at least 2")
    knots = torch.arange(1, num_diffusion_steps + 1, dtype=torch.float64) / num_diffusion_steps
    return Table(Cosine(offset, max_log_snr)(knots))


def sigma_table(
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
