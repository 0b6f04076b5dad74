"""A residual perceptron for vectors: points in the plane, rows of a table.

Each block reads the normalised features, scaled and shifted by the embedding of label and class, and adds
what it finds to them; the features themselves are never normalised, so the size of x reaches the output.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from .embeddings import Conditioning
from .layers import Linear, SiLU, zeroed


class Residual(nn.Module):
    """h + W₂ dropout(silu(W₁(norm(h)(1 + s) + b))), with (s, b) linear in silu(e); W₂ starts at zero."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.silu = SiLU()
        # over all features, as LayerNorm, whose third derivative (sliced matching of an energy) torch has wrong
        self.norm = nn.GroupNorm(1, width, affine=False)
        self.embed = Linear(width, 2 * width)
        self.first = Linear(width, width)
        self.dropout = nn.Dropout(dropout)
        self.second = zeroed(Linear(width, width))

    def forward(self, h: Tensor, e: Tensor) -> Tensor:
        scale, shift = self.embed(self.silu(e)).chunk(2, dim=-1)
        u = self.first(self.norm(h) * (1 + scale) + shift)
        return h + self.second(self.dropout(self.silu(u)))


class MLP(nn.Module):
    """network(x, label, classes=None, vector=None): x (B, D), label (B,) float, to (B, out_channels).

    Args:
        shape: (D,) of one example.
        num_classes, vector_features: see `Conditioning`.
        out_channels: D unless given.
        width: features of every hidden layer.
        blocks: number of residual blocks.
        dropout: probability of dropping a feature inside a block while training.
    """

    def __init__(
        self,
        shape: Sequence[int],
        *,
        num_classes: int = 0,
        vector_features: int = 0,
        out_channels: int | None = None,
        width: int = 256,
        blocks: int = 3,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if len(shape) != 1 or min(shape[0], width, blocks) < 1:
            given = f"{tuple(shape)}, {width}, {blocks}"
            raise ValueError(f"an MLP takes vectors (D,) and positive width, blocks; got {given}")
        self.features = shape[0]
        self.embedding = Conditioning(max(2, width), width, num_classes, vector_features)
        self.stem = Linear(self.features, width)
        self.blocks = nn.ModuleList(Residual(width, dropout) for _ in range(blocks))
        self.silu = SiLU()
        self.head = zeroed(Linear(width, self.features if out_channels is None else out_channels))

    def forward(self, x: Tensor, label: Tensor, classes: Tensor | None = None, vector: Tensor | None = None) -> Tensor:
        if x.ndim != 2 or x.shape[1] != self.features:
            raise ValueError(f"this network takes x of shape (B, {self.features}); got {tuple(x.shape)}")
        e = self.embedding(label, classes, vector)
        h = self.stem(x)
        for block in self.blocks:
            h = block(h, e)
        return self.head(self.silu(h)).to(x.dtype)
