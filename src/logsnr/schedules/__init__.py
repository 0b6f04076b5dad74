"""Noise schedules: γ(t) = −log SNR(t), strictly increasing on [0, 1] from the data end to the noise end.

A schedule says *when* a noise level is visited. It is a module so that a learned γ is trained and saved with the rest;
the fixed ones hold Python numbers or float64 CPU tensors that no `.to()` moves, and their derivative is taken by
forward-mode differentiation (`Path.slope`), never written down twice.

    Linear      γ₀ + (γ₁ − γ₀) t                                  VDM, appendix D; geometric σ is this line too
    BetaLinear  the γ whose log α is −½∫β, β = β₀ + (β₁ − β₀) t   Score SDE, eq. 32 (vp) and 29 (sub_vp)
    Cosine      log (1 − ᾱ)/ᾱ of Improved DDPM, eq. 17, bounded smoothly at ±the given log-SNR
    Straight    2 log t/(1 − t): on the straight scale α = 1 − t and σ = t, both ends legal       flow matching
    Table       T knots t_i = i/T, monotone cubic between them    DDPM, Improved DDPM, NCSN: any list of levels
    Fitted      knots anywhere, straight between them             VDM, section 5.3, after the training
    Learned     γ₀ + (γ₁ − γ₀) s(t), s a monotone network         VDM, appendix H: exact ends, pinned or learned

`t_min` is the lowest time at a finite level. Below it lies only t = 0, the clean level (γ = −∞) of the schedules that
reach it; a table has nothing between t = 0 and its first knot.
"""

from collections.abc import Callable
from functools import partial

from logsnr.schedules.curves import BetaLinear as BetaLinear
from logsnr.schedules.curves import Cosine as Cosine
from logsnr.schedules.curves import Linear as Linear
from logsnr.schedules.curves import Straight as Straight
from logsnr.schedules.curves import geometric as geometric
from logsnr.schedules.fitted import Fitted as Fitted
from logsnr.schedules.fitted import of_density as of_density
from logsnr.schedules.learned import Learned as Learned
from logsnr.schedules.learned import learned as learned
from logsnr.schedules.schedule import NoiseSchedule as NoiseSchedule
from logsnr.schedules.schedule import time_of as time_of
from logsnr.schedules.table import Table as Table
from logsnr.schedules.table import beta_table as beta_table
from logsnr.schedules.table import cosine_table as cosine_table
from logsnr.schedules.table import sigma_table as sigma_table
from logsnr.schedules.table import table_of_betas as table_of_betas

SCHEDULES: dict[str, Callable[..., NoiseSchedule]] = {
    "linear": Linear,
    "beta_linear": BetaLinear,
    "cosine": Cosine,
    "geometric": geometric,
    "straight": Straight,
    "beta_table": beta_table,
    "sigma_table": sigma_table,
    "cosine_table": cosine_table,
    "fitted": Fitted,
    "learned_linear": partial(Learned, None),
}
SCHEDULES["learned"] = partial(learned, SCHEDULES)
