"""Exponential moving averages of the weights, measured in images.

The average forgets half of the past every h images, so its meaning does not change with the batch size; a
decay d at batch B is the half-life h = B ln 2 / −ln d. A long average started at the initial weights keeps
them for a long time (decay 0.9999 still holds 95 % of them after 500 steps: noise, at a tiny loss). So the
half-life grows with the images seen, min(h, ρ·images) (Karras et al. 2022, appendix F.2, with ρ = 0.05).
While it grows, a parameter moving at constant speed v from its start, p = v·N, is followed at E = c·N with

    dE/dN = (ln 2 / ρN)(p − E)   ⇒   (p − E) / p = 1 / (1 + ln 2 / ρ),

the share of the way that the average lags behind: 6.7 % at ρ = 0.05, and below 10 % for every ρ < ln 2 / 9 =
0.077. The decay is a pure function of (images seen, images of the step): resuming needs no counter.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from logsnr.train.engine import local
from logsnr.train.names import copy_into, listed, named_tensors


def decay(images_seen: int, images: int, *, half_life_images: float, warmup_ratio: float = 0.05) -> float:
    """0.5 ** (images / min(half_life_images, warmup_ratio · images_seen)), the decay of a step of `images`.

    images_seen: all images up to and including this step's. warmup_ratio: math.inf switches the warm-up off.
    """
    return float(0.5 ** (images / min(half_life_images, warmup_ratio * images_seen)))


@torch.no_grad()
def lerp(averages: Sequence[Tensor], values: Sequence[Tensor], decay: float) -> None:
    """averages ← decay · averages + (1 − decay) · values, in place, all tensors in one call."""
    torch._foreach_lerp_(list(averages), list(values), 1.0 - decay)


class MovingAverages:
    """a ← d·a + (1 − d)·p for every parameter p of `module`, once for each half-life.

    The averages are trees of their own beside the module and matched to parameters by object, never by name.
    Buffers are not averaged: an averaged model has the module's current ones. Build it when the module is on
    its device.

    half_lives_images: distinct positive numbers of images; the first is the one that is sampled by default.
    """

    def __init__(self, module: nn.Module, half_lives_images: Sequence[int], *, warmup_ratio: float = 0.05) -> None:
        if not half_lives_images or len(set(half_lives_images)) < len(half_lives_images):
            raise ValueError(f"half_lives_images must be distinct, at least one, not {list(half_lives_images)}")
        if min(half_lives_images) <= 0 or warmup_ratio <= 0:
            given = f"{list(half_lives_images)} and {warmup_ratio}"
            raise ValueError(f"half_lives_images and warmup_ratio must be positive, not {given}")
        narrow = {str(p.dtype) for p in module.parameters() if p.dtype.itemsize < 4}
        if narrow:
            raise ValueError(f"averages need parameters of >= 32 bits, not {listed(narrow)}; use autocast")
        self.module = module
        self.warmup_ratio = warmup_ratio
        self._parameters = list(module.parameters())
        self._trees = {h: [p.detach().clone() for p in self._parameters] for h in half_lives_images}

    @property
    def half_lives_images(self) -> tuple[int, ...]:
        return tuple(self._trees)

    def update(self, images_seen: int, images: int) -> None:
        """Move every average after a step of `images` images, the last of `images_seen`."""
        for half_life, averages in self._trees.items():
            step_decay = decay(images_seen, images, half_life_images=half_life, warmup_ratio=self.warmup_ratio)
            lerp(list(map(local, averages)), list(map(local, self._parameters)), step_decay)

    @contextmanager
    def swap(self, half_life_images: int | None = None) -> Iterator[nn.Module]:
        """The module with averaged weights inside the block; after it the very same raw weights, always.

        The numbers change places, not the tensors: a sharded module gathers its weights from memory of its own.
        """
        if half_life_images is not None and half_life_images not in self._trees:
            raise ValueError(f"no average of half-life {half_life_images}; there are {listed(self._trees)}")
        averages = self._trees[half_life_images or self.half_lives_images[0]]
        _exchange(self._parameters, averages)
        try:
            yield self.module
        finally:
            _exchange(self._parameters, averages)

    def state(self) -> dict[str, dict[str, Tensor]]:
        """Complete live trees by group: `ema` for the first half-life, `ema-<half_life_images>` for more."""
        tensors = named_tensors(self.module)
        trees = {}
        for half_life, averages in self._trees.items():
            average_of = dict(zip(map(id, self._parameters), averages, strict=True))
            trees[self._group(half_life)] = {
                name: average_of.get(id(tensor), tensor.detach()) for name, tensor in tensors.items()
            }
        return trees

    def load_state(self, groups: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Copy saved trees in; ValueError in one line if a group or a tensor is missing or does not fit."""
        for group, tree in self.state().items():
            if group not in groups:
                raise ValueError(f"no averages {group!r} among the saved groups {listed(groups)}")
            copy_into(tree, groups[group], group)

    def _group(self, half_life_images: int) -> str:
        return "ema" if half_life_images == self.half_lives_images[0] else f"ema-{half_life_images}"


@torch.no_grad()
def _exchange(one: Sequence[Tensor], other: Sequence[Tensor]) -> None:
    for a, b in zip(map(local, one), map(local, other), strict=True):
        kept = a.clone()
        a.copy_(b)
        b.copy_(kept)
