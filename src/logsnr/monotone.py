"""A monotone network of one variable: what bends a learned schedule between its ends (V2; VDM, appendix H).

    γ̃(t) = l₁(t) + l₃(φ(l₂(l₁(t)))),   φ = sigmoid,   all weights positive

With positive weights every layer increases, so γ̃ does, strictly, whatever an optimiser makes of the parameters. The
parameters are kept as softplus⁻¹ of the weights: |w| would leave the weights a point at which γ̃ is flat. l₂ ∘ l₁ is an
affine map of t with positive slopes, and these are parameters of their own, as in the authors' program: were l₁'s
weight in both places, each of its steps would move all of γ̃ along t. l₃ takes the mean over its units, so that a step
of the optimiser means the same for any width; l₁ needs no offset, as a schedule takes γ̃(0) away.

A network may start in the shape of any increasing function m from 0 to 1. The sum of n equal logistic steps at the
quantiles m⁻¹((j + ½)/n), each a few quantiles wide, is m up to O(1/n²); m is reflected beyond both ends to keep its
slope there. No step is narrower than 1/256: what happens to γ in less time is seen once in many batches, by a single
example with an enormous gradient, and cannot be unlearned. So the start of a beta-linear γ, all but vertical at t = 0,
is blurred over about 0.01 of time.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

LINEAR_SHARE = 0.5  # of the least slope of m that l₁ takes
OVERLAP = 4.0  # width of a logistic step in distances of neighbours
NARROWEST = 1 / 256  # width of a logistic step in time
SCALE = 1 / 64  # of γ̃ at the start: softplus is then about exp, and the optimiser changes weights by the same factors


def softplus(x: Tensor) -> Tensor:
    """log(1 + eˣ); torch's own leaves the curve at x = 20, eight digits before a double ends."""
    return functional.softplus(x, threshold=40)


def inverse_softplus(value: Tensor) -> Tensor:
    """x with log(1 + eˣ) = value > 0."""
    return value + torch.log(-torch.expm1(-value))


class Monotone(nn.Module):
    """γ̃ above, with `width` units in l₂; a new one is a straight line.

    Computed in the dtype and on the device of t, from parameters that live with the model in float32.
    """

    def __init__(self, width: int = 1024) -> None:
        super().__init__()
        if width < 2:
            raise ValueError(f"width = {width} of a monotone network; allowed: at least 2")
        self.weight1 = nn.Parameter(torch.empty(()))
        self.weight2, self.bias2 = nn.Parameter(torch.empty(width)), nn.Parameter(torch.empty(width))
        self.weight3 = nn.Parameter(torch.empty(width))
        self.fit(lambda t: t)

    def forward(self, t: Tensor) -> Tensor:
        """γ̃ at times of any shape."""
        with torch.autocast(t.device.type, enabled=False):
            second = softplus(self.weight2.to(t)) * t.unsqueeze(-1) + self.bias2.to(t)
            return softplus(self.weight1.to(t)) * t + second.sigmoid() @ softplus(self.weight3.to(t)) / len(
                self.weight3
            )

    @torch.no_grad()
    def fit(self, shape: Callable[[Tensor], Tensor]) -> None:
        """Start as a multiple of `shape`, an increasing function of float64 times, 0 at 0 and 1 at 1."""
        width = len(self.weight2)
        share = LINEAR_SHARE * shape(torch.linspace(0, 1, width, dtype=torch.float64)).diff().min() * (width - 1)
        share = share.clamp(max=LINEAR_SHARE)

        def rest(t: Tensor) -> Tensor:
            """What the steps have to make, reflected in the points (0, 0) and (1, 1) so that it goes on beyond them."""
            inside = torch.where(t < 0, -t, torch.where(t > 1, 2 - t, t))
            value = (shape(inside) - share * inside) / (1 - share)
            return torch.where(t < 0, -value, torch.where(t > 1, 2 - value, value))

        ends = torch.tensor([-8 * NARROWEST, 1 + 8 * NARROWEST], dtype=torch.float64)
        low, high = rest(ends)
        centre = _inverse(rest, low + (high - low) * (torch.arange(width).double() + 0.5) / width, ends)
        steep = 1 / (OVERLAP * torch.gradient(centre)[0]).clamp(min=NARROWEST)
        self.weight1.copy_(inverse_softplus(SCALE * share))
        self.weight2.copy_(inverse_softplus(steep))
        self.bias2.copy_(-steep * centre)
        self.weight3.fill_(inverse_softplus(SCALE * (1 - share) * (high - low)))


def _inverse(function: Callable[[Tensor], Tensor], value: Tensor, ends: Tensor) -> Tensor:
    """t between the ends with function(t) = value, by bisection."""
    low, high = (end.expand_as(value) for end in ends)
    for _ in range(60):
        middle = 0.5 * (low + high)
        above = function(middle) > value
        low, high = torch.where(above, low, middle), torch.where(above, middle, high)
    return high
