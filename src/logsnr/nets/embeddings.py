"""How a label, a class and a vector become the features that steer a network.

A label is one float per example. Its sines and cosines at geometrically spaced frequencies (Vaswani et al.
2017, as used by DDPM and improved DDPM) tell apart neighbouring labels and give every scale of difference its
own pair; a small perceptron mixes them, the class, when there is one, adds its own learned vector, and a vector of
numbers adds a linear map of itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .layers import Linear, SiLU


def sinusoidal(label: Tensor, dim: int, max_period: float = 10_000) -> Tensor:
    """[cos(label·ω_k), sin(label·ω_k)], ω_k = max_period^(−k/h), k = 0..h−1, h = ⌊dim/2⌋.

    The embedding of improved DDPM (Nichol & Dhariwal 2021): all cosines, then all sines, then a zero if `dim`
    is odd.

    Args:
        label: (B,), any real dtype; computed in float32.
        dim: number of features, at least 2.
        max_period: the longest period over 2π, in units of the label.

    Returns:
        (B, dim) float32.
    """
    if dim < 2:
        raise ValueError(f"an embedding needs at least 2 features; got dim = {dim}")
    half = dim // 2
    k = torch.arange(half, dtype=torch.float32, device=label.device)
    angles = label.float().unsqueeze(-1) * torch.exp(-math.log(max_period) / half * k)
    return F.pad(torch.cat([angles.cos(), angles.sin()], dim=-1), (0, dim % 2))


class FourierFeatures(nn.Module):
    """[cos 2π f_k c, sin 2π f_k c] of a label c, f_k ~ N(0, scale²) (Tancik et al. 2020; Score SDE with c = log σ).

    The frequencies are drawn once and are a buffer: they travel in the checkpoint and are never trained.

    Args:
        features: an even number; half of it are frequencies.
        scale: standard deviation of a frequency, in periods per unit of the label.
    """

    frequencies: Tensor

    def __init__(self, features: int, scale: float) -> None:
        super().__init__()
        if features < 2 or features % 2:
            raise ValueError(f"Fourier features come in pairs; got {features}")
        self.register_buffer("frequencies", scale * torch.randn(features // 2))

    def forward(self, label: Tensor) -> Tensor:
        """(B,) of any real dtype to (B, features) float32."""
        angles = label.float().unsqueeze(-1) * (2 * math.pi * self.frequencies.float())
        return torch.cat([angles.cos(), angles.sin()], dim=-1)


class Conditioning(nn.Module):
    """e = W₂ silu(W₁ encode(label)) + c[class] + W₃ [v, 1]: one feature vector per example.

    Args:
        features: features of the label, at least 2.
        width: features of e.
        num_classes: number of classes, 0 for none. Index `num_classes` is the class "none given", which a row
            without
            class takes and classifier-free guidance trains (Ho & Salimans 2022).
        vector_features: F of the vectors v, 0 for none. They come as (B, F + 1) whose last feature is 1; zeros all
            along are the vector "none given".
        encode: another map of the label (B,) to (B, features), in the place of `sinusoidal`; a module or a function.
    """

    def __init__(
        self,
        features: int,
        width: int,
        num_classes: int = 0,
        vector_features: int = 0,
        *,
        encode: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        super().__init__()
        self.encode = encode
        self.features = features
        self.num_classes = num_classes
        self.perceptron = nn.Sequential(Linear(features, width), SiLU(), Linear(width, width))
        self.classes = nn.Embedding(num_classes + 1, width) if num_classes else None
        self.vector = Linear(vector_features + 1, width) if vector_features else None

    def forward(self, label: Tensor, classes: Tensor | None = None, vector: Tensor | None = None) -> Tensor:
        """(B,) float label, optional (B,) int64 classes and (B, vector_features + 1) vectors to (B, width)."""
        features = sinusoidal(label, self.features) if self.encode is None else self.encode(label)
        e = self.perceptron(features.to(next(self.perceptron.parameters()).dtype))
        e = self._with_vector(e, vector)
        if self.classes is None:
            if classes is not None:
                raise ValueError("this network was built with num_classes = 0 and takes no classes")
            return e
        if classes is None:
            classes = torch.full_like(label, self.num_classes, dtype=torch.int64)
        return e + self.classes(classes)

    def _with_vector(self, e: Tensor, vector: Tensor | None) -> Tensor:
        if self.vector is None:
            if vector is not None:
                raise ValueError("this network was built with vector_features = 0 and takes no vector")
            return e
        wanted = (len(e), self.vector.in_features)
        if vector is None:
            vector = e.new_zeros(wanted)
        if vector.shape != wanted:
            raise ValueError(f"a vector of shape {tuple(vector.shape)}; allowed: {wanted}, its last feature 1 if given")
        return e + self.vector(vector.to(e))
