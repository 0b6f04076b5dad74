"""CIFAR-10 as one .npz from lossless WebP strips: python benchmarks/cifar10.py OUT.npz PART.zip … [--test TEST.npz].

A part holds `images_KKK_H.webp`, 500 pictures of 32 × 32 stacked top to bottom, and one of them `labels.npy`. Parts may
come one after the other, on a machine that takes only one at a time: pictures that OUT has already are kept. Labels are
those of the pictures that are there.
"""

from __future__ import annotations

import argparse
import io
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image


def strips(part: Path) -> tuple[dict[int, np.ndarray], np.ndarray | None]:
    """Pictures (500, 32, 32, 3) by the number of the first, and the labels if the part has them."""
    found, labels = {}, None
    with zipfile.ZipFile(part) as members:
        for name in members.namelist():
            content = io.BytesIO(members.read(name))
            if name == "labels.npy":
                labels = np.load(content, allow_pickle=False)
            else:
                batch, half = (int(word) for word in name.removesuffix(".webp").split("_")[1:])
                strip = np.asarray(Image.open(content).convert("RGB"))
                found[1000 * batch + 500 * half] = strip.reshape(-1, 32, 32, 3)
    return found, labels


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("parts", type=Path, nargs="+")
    parser.add_argument("--test", type=Path, help=".npz of images and labels")
    args = parser.parse_args()
    found: dict[int, np.ndarray] = {}
    labels = None
    if args.out.exists():
        with np.load(args.out, allow_pickle=False) as before:
            starts = before["starts"]
            found = dict(zip(starts.tolist(), before["x_train"].reshape(-1, 500, 32, 32, 3), strict=True))
            labels = before["labels"]
    for part in args.parts:
        more, theirs = strips(part)
        found |= more
        labels = theirs if labels is None else labels
    starts = np.array(sorted(found))
    rows = (starts[:, None] + np.arange(500)).ravel()
    arrays = {"x_train": np.concatenate([found[start] for start in starts]), "starts": starts}
    if labels is not None:
        arrays |= {"labels": labels, "y_train": labels[rows]}
    if args.test:
        with np.load(args.test, allow_pickle=False) as test:
            arrays |= {"x_test": test["images"], "y_test": test["labels"]}
    np.savez(args.out, **arrays)
    means = arrays["x_train"].reshape(-1, 3).mean(0)
    print(f"{len(rows)} pictures to {args.out}; means of the channels {means.round(4).tolist()}")


if __name__ == "__main__":
    main()
