"""The one resize of the library: antialiased bicubic (Pillow's) until the image covers the target, then a
centre crop.

Filters differ between libraries by more than methods differ in Fréchet distance, so there is no second way.
Resizing never changes the number of grey levels: values are rounded back to 0 .. levels−1. An image that
already has the target size is returned untouched.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

FILTER = "bicubic"


def resize(image: np.ndarray, size: tuple[int, int], levels: int | None) -> np.ndarray:
    """Return the image (h, w[, C]) as (H, W[, C]), same dtype (float32 for continuous data)."""
    if image.shape[:2] == size:
        return image
    if image.dtype == np.uint8 and levels == 256 and image.shape[2:] in ((), (2,), (3,), (4,)):
        # Pillow's own modes: faster, and colour is weighted by opacity where there is an alpha channel.
        return np.asarray(_cover_and_crop(Image.fromarray(image), size))
    planes = image.reshape(*image.shape[:2], -1).astype(np.float32)
    resized = [np.asarray(_cover_and_crop(Image.fromarray(plane), size)) for plane in np.moveaxis(planes, -1, 0)]
    result = np.stack(resized, axis=-1).reshape(*size, *image.shape[2:])
    return result if levels is None else result.round().clip(0, levels - 1).astype(image.dtype)


def _cover_and_crop(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    height, width = size
    scale = max(height / image.height, width / image.width)
    covering = max(width, round(image.width * scale)), max(height, round(image.height * scale))
    left, top = (covering[0] - width) // 2, (covering[1] - height) // 2
    return image.resize(covering, Image.Resampling.BICUBIC).crop((left, top, left + width, top + height))
