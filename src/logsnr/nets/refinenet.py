"""The RefineNets of NCSN (Song & Ermon 2019, appendix A) and NCSNv2 (Song & Ermon 2020, appendix B).

Residual stages, the later ones dilated instead of coarser, are refined from the last to the first (Lin et al. 2017):
each refinement adapts its inputs by residual convolution units, fuses them at the finer size, adds chained pooling
and one more unit. NCSN tells the noise level to every normalisation, and has one before each convolution of the
refinements too; NCSNv2 knows no level (its output is divided by σ outside) and refines without normalisation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from .frame import framed, one_of, parse, rank_of, run
from .instance_norm import InstanceNorm
from .layers import ELU, convolution, zeroed
from .refine import POOLS, Refinement, Residual


@dataclass(frozen=True, kw_only=True)
class RefineNetOptions:
    """What may be chosen about a RefineNet; the defaults are NCSNv2's for CIFAR-10.

    `multipliers` times `channels` are the widths of the stages. A stage after the first halves the sides where its
    entry of `dilations` is 1, and keeps them with convolutions dilated by that entry where it is more. `levels`: 0
    for a network that ignores the label, else the number of noise levels; the label is then the index of one, 0 to
    levels − 1, rounded and clamped. `norm`: "stages" or "everywhere", where there are normalisations. `pool`: "max" or
    "average", in the chained pooling. `checkpointing`: recompute each block in the backward pass.
    """

    channels: int = 128
    multipliers: Sequence[int] = (1, 2, 2, 2)
    dilations: Sequence[int] = (1, 1, 2, 4)
    levels: int = 0
    norm: str = "stages"
    pool: str = "max"
    checkpointing: bool = False

    def __post_init__(self) -> None:
        if not self.multipliers or min(self.channels, *self.multipliers, *self.dilations, self.levels + 1) < 1:
            raise ValueError(f"channels, multipliers and dilations are positive, levels at least 0; got {self}")
        if len(self.multipliers) != len(self.dilations):
            raise ValueError(f"one dilation a multiplier; got {list(self.dilations)} for {list(self.multipliers)}")
        one_of(("stages", "everywhere"), norm=self.norm)
        one_of(tuple(POOLS), pool=self.pool)


class RefineNet(nn.Module):
    """network(x, label, classes=None): x (B, C, *spatial), label (B,) float, to (B, out_channels, *spatial).

    Args:
        shape: (C, *spatial) of one example, with one to three spatial axes. Only C and the rank bind: any size runs.
        num_classes: see `InstanceNorm`.
        out_channels: C unless given.
        options: see `RefineNetOptions`.
    """

    def __init__(
        self, shape: Sequence[int], *, num_classes: int = 0, out_channels: int | None = None, **options: Any
    ) -> None:
        super().__init__()
        self.in_channels, self.rank, self.num_classes = shape[0], rank_of(shape, "RefineNet"), num_classes
        self.options = o = parse(RefineNetOptions, "refinenet", options)
        norm = partial(InstanceNorm, levels=max(1, o.levels), num_classes=num_classes)
        widths = [o.channels * multiplier for multiplier in o.multipliers]
        self.stem = convolution(self.rank, self.in_channels, o.channels)
        self.stages, before = nn.ModuleList(), o.channels
        for stage, (width, dilation) in enumerate(zip(widths, o.dilations, strict=True)):
            make = partial(Residual, self.rank, norm=norm, dilation=dilation)
            way = "same" if not stage else "halve" if dilation == 1 else "dilate"
            self.stages.append(nn.ModuleList([make(before, width, way=way), make(width, width, way="same")]))
            before = width
        inner = norm if o.norm == "everywhere" else None
        self.refinements, coarse = nn.ModuleList(), None
        for stage in reversed(range(len(widths))):
            inputs, width = [widths[stage]] + ([coarse] if coarse else []), widths[max(0, stage - 1)]
            units = 1 if stage else 3
            self.refinements.append(Refinement(self.rank, inputs, width, units=units, norm=inner, pool=o.pool))
            coarse = width
        self.norm, self.elu = norm(o.channels * o.multipliers[0]), ELU()
        outputs = self.in_channels if out_channels is None else out_channels
        self.head = zeroed(convolution(self.rank, o.channels * o.multipliers[0], outputs))

    def forward(self, x: Tensor, label: Tensor, classes: Tensor | None = None) -> Tensor:
        x, cut = framed(x, self.in_channels, self.rank, 2 ** self.options.dilations[1:].count(1))
        rows = self._rows(label, classes)
        h, kept = self.stem(x), []
        for stage in self.stages:
            for block in stage.children():
                h = run(block, h, rows, checkpointing=self.options.checkpointing)
            kept.append(h)
        inputs: tuple[Tensor, ...] = ()
        for refinement in self.refinements:
            inputs = (kept.pop(), *inputs)
            h = run(refinement, *inputs, rows, checkpointing=self.options.checkpointing)
            inputs = (h,)
        return cut(self.head(self.elu(self.norm(h, rows))))

    def _rows(self, label: Tensor, classes: Tensor | None) -> Tensor:
        """(B, 2) int64: each example's row in the tables of levels and of classes."""
        if classes is None:
            classes = torch.full_like(label, self.num_classes, dtype=torch.int64)
        elif not self.num_classes:
            raise ValueError("this network was built with num_classes = 0 and takes no classes")
        level = label.round().clamp(0, max(0, self.options.levels - 1)).long()
        return torch.stack([level, classes], dim=1)
