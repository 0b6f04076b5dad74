"""DDIM's family of processes q_σ: one marginal at every level, many joint laws (Song, Meng and Ermon 2021, section 3).

The marginals q(x_t|x0) = N(α_t x0, σ_t² I) do not fix how x_s and x_t belong together. For each η in [0, 1]

    q_σ(x_s|x_t, x0) = N( α_s x0 + √(σ_s² − c²) (x_t − α_t x0)/σ_t,  c² I ),   c² = η² β̃ = −η² σ_s² expm1(γ_s − γ_t)

keeps all of them (M1; eq. 7, lemma 1). With the share k = (σ_s² − c²)/σ_s² = 1 − η² + η² exp(γ_s − γ_t), Bayes' rule
gives the forward kernel

    q_σ(x_t|x_s, x0) = N( α_t x0 + √k (σ_t/σ_s)(x_s − α_s x0),  −η² σ_t² expm1(γ_s − γ_t) I ),

the Markov transition at η = 1, where √k σ_t/σ_s = α_t/α_s and x0 drops out; for η < 1 it looks at x0, and three
successive states are no longer a chain (M7). β̃ itself is 0 only where β is 0 or s is clean: to take noise out of the
reverse step one has to give up the Markov property, not the marginals.
"""

from __future__ import annotations

import torch
from torch import Tensor

from logsnr.kernels import Normal, posterior_log_var, transition_log_var
from logsnr.level import Level, over


def kept(t: Level, s: Level, eta: float) -> Tensor:
    """k = (σ_s² − c²)/σ_s², the share of σ_s² that is not drawn anew, as a sum of positive terms; () or (B,)."""
    return (1 - eta**2) + eta**2 * torch.exp(s.gamma - t.gamma)


def backward(x: Tensor, x0: Tensor, t: Level, s: Level, eta: float) -> Normal:
    """q_σ(x_s | x_t = x, x0) (DDIM, eq. 7); the posterior of DDPM at η = 1. x, x0: (B, *)."""
    of_noise = torch.exp(s.log_sigma - t.log_sigma) * kept(t, s, eta).sqrt()
    mean = over(s.alpha, x) * x0 + over(of_noise, x) * (x - over(t.alpha, x) * x0)
    return Normal(mean, over(posterior_log_var(t, s) + _log_square(eta), x))


def forward(x_s: Tensor, x0: Tensor, s: Level, t: Level, eta: float) -> Normal:
    """q_σ(x_t | x_s, x0) by Bayes' rule (DDIM, section 3.1); DDPM's transition at η = 1. x_s, x0: (B, *), s finite."""
    of_noise = torch.exp(t.log_sigma - s.log_sigma) * kept(t, s, eta).sqrt()
    mean = over(t.alpha, x_s) * x0 + over(of_noise, x_s) * (x_s - over(s.alpha, x_s) * x0)
    return Normal(mean, over(transition_log_var(t, s) + _log_square(eta), x_s))


def noise_weight(t: Level, s: Level, eta: float, floor_log_var: Tensor) -> Tensor:
    """γ_t of Theorem 1: KL(q_σ(x_s|x_t,x0) ‖ q_σ(x_s|x_t,x̂0)) = γ_t |ε − ε̂|², () or (B,); 0 < η <= 1.

    γ_t = b² σ_t² / (2 c² α_t²), b = α_s − √k α_t σ_s/σ_t the coefficient of x0 in the mean. Into the clean level the
    density N(x̂0, c² I) has c² = η² exp(floor_log_var). (The paper's proof writes b = 1.)
    """
    if not 0 < eta <= 1:
        raise ValueError(f"eta = {eta} of a bound's weight; allowed: above 0 (else it is infinite) to 1")
    # √k α_t σ_s/(α_s σ_t) = exp(½ log k + ½ (γ_s − γ_t)): near levels keep their digits
    log_k = torch.log1p(eta**2 * torch.expm1(s.gamma - t.gamma))
    of_x0 = -s.alpha * torch.expm1(0.5 * (log_k + s.gamma - t.gamma))
    log_var = torch.where(torch.isneginf(s.gamma), floor_log_var, posterior_log_var(t, s)) + _log_square(eta)
    return 0.5 * of_x0**2 * torch.exp(t.gamma - log_var)


def _log_square(eta: float) -> Tensor:
    return 2 * torch.tensor(eta, dtype=torch.float64).log()
