"""Bits per dimension of a run's test split beside PNG's and WebP's on the same pictures.

    logsnr train vdm --data digits --minutes 2 --out runs/vdm
    python benchmarks/bits.py runs/vdm

The run's figure is its bound, of every picture of the split once, with the standard error over pictures. PNG (every row
filter tried, the strongest deflate) and WebP (lossless, method 6) get the pictures twice: a file each, and all pictures
on one sheet, where headers weigh nothing and a picture may borrow from its neighbours; the smaller figure is the fair
one.
"""

from __future__ import annotations

import argparse
import io
import json
import math

import numpy as np
from PIL import Image

import logsnr

FORMATS = {"png": {"optimize": True}, "webp": {"lossless": True, "quality": 100, "method": 6, "exact": True}}


def size_bits(image: np.ndarray, kind: str) -> int:
    """Of the file that holds an image (H, W) or (H, W, 3) uint8."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, kind, **FORMATS[kind])
    return 8 * len(file.getvalue())


def sheet(images: np.ndarray) -> np.ndarray:
    """(N, H, W, …) as one picture, about as many columns as rows; the last row is filled up with empty ones."""
    columns = math.ceil(math.sqrt(len(images)))
    rows = -(-len(images) // columns)
    filled = np.concatenate([images, np.zeros((rows * columns - len(images), *images.shape[1:]), images.dtype)])
    grid = filled.reshape(rows, columns, *images.shape[1:]).swapaxes(1, 2)
    return grid.reshape(rows * images.shape[1], columns * images.shape[2], *images.shape[3:])


def main() -> None:
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("run", help="a trained run of images of 8 bits or fewer")
    flags.add_argument("--repeats", type=int, default=8, help="draws of the bound for each picture (8)")
    args = flags.parse_args()
    run = logsnr.load(args.run, exact=True)
    test = logsnr.data.load(run.config.data.source, split="test")
    images = test.raw(range(len(test)))
    dims = images[0].size
    bits = logsnr.bits_per_dim(run.bound_nats(test, repeats=args.repeats)["total"], dims).double()
    found = {"run": float(bits.mean()), "standard_error": float(bits.std() / len(bits) ** 0.5), "pictures": len(test)}
    for kind in FORMATS:
        found[f"{kind}_a_file_each"] = sum(size_bits(image, kind) for image in images) / images.size
        found[f"{kind}_one_sheet"] = size_bits(sheet(images), kind) / images.size
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
