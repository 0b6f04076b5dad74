"""The three Gaussian kernels, each from a level t to a lower level s: q(t|s), q(s|t, x0) and p(s|t).

One posterior serves every family: with r = exp(γ_s − γ_t),

    q(x_s | x_t, x0) = N( (α_t/α_s)(σ_s/σ_t)² x_t + α_s (1 − r) x0,  σ_s² (1 − r) I )      (F4; DDPM eq. 6–7)

DDPM's tables, Improved DDPM's respacing (a coarser grid, nothing more), the VE and sub-VP ancestral steps and VDM's
sampler are this one function. 1 − r = −expm1(γ_s − γ_t) keeps its digits where the two levels are close, and each
ratio is the exp of a difference of logs, finite at both ends: s may be clean (σ_s = 0), t pure noise (α_t = 0).

The reverse kernel p(s|t) is the posterior with x̂0 in place of x0 and a variance by rule. A rule says where between the
posterior's and the transition's log variance, log β̃ and log β on DDPM's own grid, the kernel's lies:

    small          log β̃                          DDPM, section 3.2
    large          log β                          DDPM, section 3.2
    learned_range  u log β + (1 − u) log β̃        Improved DDPM, eq. 15; u from the network, for each number

At the step into the clean level the posterior variance is 0; there the original programs put the posterior variance of
the last step between two finite levels, which is also the variance of DDPM's decoder (D9). Samplers never need it (that
step returns x̂0); a bound does, and takes the rule `floored` on its grid.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from logsnr.level import Level, over
from logsnr.prediction import Prediction
from logsnr.registry import lookup


@dataclass(frozen=True)
class Normal:
    """N(mean, exp(log_var)), diagonal. mean: (B, *); log_var broadcasts against it."""

    mean: Tensor
    log_var: Tensor

    def sample(self, eps: Tensor) -> Tensor:
        """mean + std · eps, for standard normal eps (B, *)."""
        return self.mean + torch.exp(0.5 * self.log_var) * eps

    def kl(self, other: Normal) -> Tensor:
        """KL(self ‖ other) in nats, summed over dimensions, (B,) (D4)."""
        difference = self.log_var - other.log_var
        squared = (self.mean - other.mean) ** 2 * torch.exp(-other.log_var)
        return (0.5 * (torch.expm1(difference) - difference + squared)).reshape(len(self.mean), -1).sum(1)

    def log_prob(self, x: Tensor) -> Tensor:
        """log density in nats, summed over dimensions, (B,)."""
        squared = (x - self.mean) ** 2 * torch.exp(-self.log_var)
        return (-0.5 * (squared + self.log_var + math.log(2 * math.pi))).reshape(len(x), -1).sum(1)


def transition(x_s: Tensor, s: Level, t: Level) -> Normal:
    """q(x_t | x_s) = N((α_t/α_s) x_s, −σ_t² expm1(γ_s − γ_t) I) (F2). x_s: (B, *)."""
    return Normal(over(torch.exp(t.log_alpha - s.log_alpha), x_s) * x_s, over(transition_log_var(t, s), x_s))


def transition_log_var(t: Level, s: Level) -> Tensor:
    """log σ²_{t|s} = log(−σ_t² expm1(γ_s − γ_t)), DDPM's log β_t on its own grid; () or (B,)."""
    return 2 * t.log_sigma + torch.log(-torch.expm1(s.gamma - t.gamma))


def posterior_log_var(t: Level, s: Level) -> Tensor:
    """log(−σ_s² expm1(γ_s − γ_t)), DDPM's log β̃_t; −∞ when s is clean; () or (B,)."""
    return 2 * s.log_sigma + torch.log(-torch.expm1(s.gamma - t.gamma))


def posterior_coefficients(t: Level, s: Level) -> tuple[Tensor, Tensor]:
    """(c_x, c_x0) of the posterior mean c_x x_t + c_x0 x0; () or (B,)."""
    of_x = torch.exp(t.log_alpha - s.log_alpha + 2 * (s.log_sigma - t.log_sigma))
    return of_x, -s.alpha * torch.expm1(s.gamma - t.gamma)


def posterior(x: Tensor, x0: Tensor, t: Level, s: Level) -> Normal:
    """q(x_s | x_t = x, x0), the module's formula. x, x0: (B, *)."""
    of_x, of_x0 = posterior_coefficients(t, s)
    return Normal(over(of_x, x) * x + over(of_x0, x) * x0, over(posterior_log_var(t, s), x))


def prior_kl(x0: Tensor, highest: Level, prior_std: float) -> Tensor:
    """KL(q(x_1|x0) ‖ N(0, prior_std² I)) in nats, (B,), at the highest level, () (F5). x0: (B, *)."""
    noised = Normal(over(highest.alpha, x0) * x0, over(2 * highest.log_sigma, x0))
    return noised.kl(Normal(torch.zeros_like(x0), torch.full_like(noised.log_var, prior_std).log() * 2))


Between = Callable[[Prediction, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Rule:
    """A rule for the variance of p(x_s | x_t).

    between: (prediction, log β̃, log β) → log variance; the two are those of the step, ready to meet x (B, *).
    spread: whether it reads `prediction.spread`, which a network then has to be built with.
    """

    between: Between
    spread: bool = False

    def __call__(self, prediction: Prediction, t: Level, s: Level) -> Tensor:
        """Log variance of the step from t down to s, broadcasting against x (B, *)."""
        x = prediction.x
        return self.between(prediction, over(posterior_log_var(t, s), x), over(transition_log_var(t, s), x))


def _learned_range(prediction: Prediction, lower: Tensor, upper: Tensor) -> Tensor:
    """u log β + (1 − u) log β̃ with u = (spread + 1)/2, not clamped (Improved DDPM, eq. 15)."""
    if prediction.spread is None:
        raise ValueError(
            "variance 'learned_range' needs a model with a spread channel (one trained with variance: learned_range); "
            "allowed for this one: small, large"
        )
    u = 0.5 * (prediction.spread + 1)
    return u * upper + (1 - u) * lower


small = Rule(lambda prediction, lower, upper: lower)
"""log β̃_t, the posterior's own variance, optimal when the data is one point (DDPM, section 3.2)."""

large = Rule(lambda prediction, lower, upper: upper)
"""log β_t, the transition's variance, optimal on the vp scale when the data is N(0, I) (DDPM, section 3.2)."""

learned_range = Rule(_learned_range, spread=True)

VARIANCES: dict[str, Rule] = {"small": small, "large": large, "learned_range": learned_range}


def named_rule(name: str) -> Rule:
    """The reverse variance of that name; ValueError lists the known ones."""
    return lookup(VARIANCES, name, "variance")


@dataclass(frozen=True)
class Floored:
    """A rule for which `floor_log_var`, (), stands for log β̃ at the step into the clean level.

    There a fixed rule has the floor whatever it is elsewhere, as in the original programs; a rule that the network has
    a say in keeps its whole range, from the floor to log β.
    """

    rule: Rule
    floor_log_var: Tensor

    def __call__(self, prediction: Prediction, t: Level, s: Level) -> Tensor:
        x, into_clean = prediction.x, torch.isneginf(s.gamma)
        lower = over(torch.where(into_clean, self.floor_log_var, posterior_log_var(t, s)), x)
        upper = over(transition_log_var(t, s), x)
        if not self.rule.spread:
            upper = torch.where(over(into_clean, x).bool(), lower, upper)
        return self.rule.between(prediction, lower, upper)


def floored(name: str, grid: Level) -> Floored:
    """The named rule on a grid (S + 1,) of levels, with the floor that the grid implies.

    ValueError for an unknown name, and for a grid with one finite level, which has no step to take the floor from.
    """
    finite = grid[~torch.isneginf(grid.gamma)]
    if len(finite) < 2:
        raise ValueError(f"variance {name!r} on a grid with one finite level; allowed: at least 2 steps, or ddim")
    return Floored(named_rule(name), posterior_log_var(finite[-2], finite[-1]))


def reverse(prediction: Prediction, s: Level, rule: Rule | Floored) -> Normal:
    """p(x_s | x_t): the posterior with x̂0 in place of x0, from the prediction's level t down to s (D5, D6)."""
    t, x = prediction.level, prediction.x
    return Normal(posterior(x, prediction.x0, t, s).mean, rule(prediction, t, s))
