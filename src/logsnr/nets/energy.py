"""A network whose answer is −∇ₓE of one number an example: a field that can be a score, since every score is one.

A free network's field need not be the gradient of anything. Here E_θ(x, label) = −⟨x, y⟩ with y the answer of any other
network; what samplers and losses see is −∇ₓE (Salimans and Ho 2021; energy-based view of score matching, R4). In units
of the target it stands for: a score-predicting energy is −log p_t(x) up to a constant.

The gradient is taken inside the forward pass, also where the caller has gradients switched off, as sampling has.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel


class Energy(nn.Module):
    """network(x, label, **condition) → −∇ₓE, the shape of x; `energy` is E itself.

    inner: a network whose answer has the shape of x.
    """

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def energy(self, x: Tensor, label: Tensor, **condition: Tensor) -> Tensor:
        """E_θ(x, label) = −⟨x, y⟩, (B,)."""
        y = self.inner(x, label, **condition)
        if y.shape != x.shape:
            raise ValueError(f"an energy of x {tuple(x.shape)} from answers {tuple(y.shape)}; allowed: the same shape")
        return -(x * y).flatten(1).sum(1)

    def forward(self, x: Tensor, label: Tensor, **condition: Tensor) -> Tensor:
        def energy(at: Tensor) -> Tensor:
            # copies: a graph cannot keep tensors of inference mode
            return self.energy(at, label.clone(), **{key: value.clone() for key, value in condition.items()})

        return minus_gradient(energy, x)


def minus_gradient(energy: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """−∇ₓ Σ energy(x), the shape of x (B, *), for an energy (B,); differentiable where gradients are on."""
    train = torch.is_grad_enabled()
    # attention by its definition: the fused kernels have no second derivative
    with torch.inference_mode(False), torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
        at = x if train and x.requires_grad else x.clone().detach().requires_grad_()
        (gradient,) = torch.autograd.grad(energy(at).sum(), at, create_graph=train)
    return -gradient if train else -gradient.detach()
