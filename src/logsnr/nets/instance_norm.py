"""InstanceNorm++ (Song & Ermon 2019, appendix A): instance normalisation that keeps what it takes away, in measure.

With μ_k, s_k the mean and standard deviation of channel k over the positions of one example, m and v those of
the μ_k over the channels,

    z_k = γ_k (x_k − μ_k)/s_k + β_k + α_k (μ_k − m)/v.

Plain instance normalisation erases the μ_k, and with them the colours of a picture. In CondInstanceNorm++ the
γ, β, α are rows of a table, one row a noise level (NCSN); without levels there is one row (NCSNv2). A class adds
a row of a second table, as styles do in conditional instance normalisation (Dumoulin et al. 2017).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .layers import at_least_float32, over


class InstanceNorm(nn.Module):
    """z of the formula above for x (B, C, *) and rows (B, 2) int64, the indices of level and class.

    Args:
        channels: C.
        levels: rows of the table of levels, at least 1. γ and α start at N(1, 0.02²), β at 0 (NCSN's program).
        num_classes: classes, whose rows start at 0; the row after the last is the class "none given".
    """

    EPSILON = 1e-5

    def __init__(self, channels: int, levels: int = 1, num_classes: int = 0) -> None:
        super().__init__()
        self.channels = channels
        self.levels = nn.Embedding(levels, 3 * channels)
        self.classes = nn.Embedding(num_classes + 1, 3 * channels) if num_classes else None
        with torch.no_grad():
            self.levels.weight.normal_(1.0, 0.02)[:, channels : 2 * channels].zero_()
            if self.classes is not None:
                self.classes.weight.zero_()

    def forward(self, x: Tensor, rows: Tensor) -> Tensor:
        row = self.levels(rows[:, 0])
        if self.classes is not None:
            row = row + self.classes(rows[:, 1])
        gamma, beta, alpha = row.chunk(3, dim=-1)
        mu = at_least_float32(x).flatten(2).mean(dim=2)
        v, m = torch.var_mean(mu, dim=1, keepdim=True, correction=0)
        means = (mu - m) * torch.rsqrt(v + self.EPSILON)
        h = torch.group_norm(x, self.channels, None, None, self.EPSILON)
        return (h * over(gamma, x) + over(beta + alpha * means, x)).to(x.dtype)
