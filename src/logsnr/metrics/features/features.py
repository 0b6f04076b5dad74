"""What a feature space is asked for, what it answers, and how a network is kept honest.

Images reach a network as the uint8 values of a picture file, from memory: an image and its PNG have the same features.
A network is in evaluation mode, frozen, in float32 without TF32, and must answer twice the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from logsnr.data import Dataset, Transform
from logsnr.data.resize import FILTER, resize
from logsnr.pictures import as_rgb

AT_ONCE = 64


@dataclass(frozen=True)
class Wish:
    """What features are wanted of. transform: of the data. train, heldout: its splits, for networks trained on them.

    file: a TorchScript module. size: (height, width) that images are resized to first; None for as they are.
    """

    transform: Transform
    train: Dataset | None = None
    heldout: Dataset | None = None
    file: Path | None = None
    size: tuple[int, int] | None = None
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))


@dataclass(frozen=True)
class Features:
    """of: raw examples (n, *raw_shape) → float32 (n, D), a chunk at a time. facts: name, sha256, resize, for JSON."""

    of: Callable[[np.ndarray], np.ndarray]
    facts: Mapping[str, Any]


def extract(features: Features, raw: np.ndarray, advance: Callable[[int], None] = lambda n: None) -> np.ndarray:
    """Features (N, D) of raw examples (N, *raw_shape). advance: told the examples of each chunk."""
    found = []
    for start in range(0, len(raw), AT_ONCE):
        found.append(features.of(raw[start : start + AT_ONCE]))
        advance(len(found[-1]))
    return np.concatenate(found)


def pictures(raw: np.ndarray, transform: Transform, size: tuple[int, int] | None) -> Tensor:
    """Raw images as a network sees them: float32 (n, 3, H, W) holding whole numbers 0 to 255, grey repeated.

    ValueError for examples that are no images of discrete levels: their range would be a guess.
    """
    if transform.levels is None or len(transform.shape) != 3:
        kind = "continuous" if transform.levels is None else "no images"
        raise ValueError(f"examples of shape {transform.shape} are {kind}; allowed: --features pixels")
    rgb = as_rgb(raw, transform)
    if size is not None:
        rgb = np.stack([resize(image, size, 256) for image in rgb])
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(rgb, -1, 1))).float()


def said_of_resize(size: tuple[int, int] | None) -> str | None:
    """How a resize is named in JSON."""
    return None if size is None else f"{size[0]}x{size[1]} {FILTER}, antialiased, rounded to uint8"


@torch.inference_mode()
def asked(network: Callable[[Tensor], Tensor], x: Tensor, device: torch.device) -> np.ndarray:
    """Features float32 (n, D) of a network; maps (n, D, H, W) are averaged over their pixels.

    ValueError for an answer of another shape, or one that is not finite.
    """
    with torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False):
        found = network(x.to(device))
    if found.ndim == 4:
        found = found.mean((2, 3))
    if found.ndim != 2 or len(found) != len(x) or not bool(found.isfinite().all()):
        raise ValueError(f"features of shape {tuple(found.shape)} for {len(x)} images; finite (n, D) are needed")
    return found.float().cpu().numpy()


def frozen(features: Features, raw: np.ndarray) -> Features:
    """The same features. ValueError if two calls on the raw examples differ: dropout or batch statistics at work."""
    if not np.array_equal(features.of(raw), features.of(raw)):
        raise ValueError(f"features {features.facts['name']} differ between two calls; allowed: a frozen network")
    return features
