"""Any TorchScript module as a feature space: (n, 3, H, W) float32 with the values 0 to 255 → (n, D) or (n, D, h, w).

A TorchScript archive holds code as well as weights, in a restricted language that PyTorch interprets; give only files
whose origin you know. No file is ever unpickled.
"""

from __future__ import annotations

import hashlib
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from logsnr.metrics.features.features import Features, Wish, asked, frozen, pictures, said_of_resize

RAW_FEATURES = "return_features"
"""An argument by which a classifier's module gives what stands before its logits."""


def script(wish: Wish) -> Features:
    """The module of `wish.file`. ValueError without a file, or for one that is no TorchScript module."""
    if wish.file is None:
        raise ValueError("--features script needs a module; allowed: --feature-file FILE.pt")
    return scripted(wish, wish.file, "script")


def scripted(wish: Wish, path: Path, name: str) -> Features:
    """The module at `path`, in evaluation mode and frozen."""
    module = read_module(path, wish.device)
    options = {RAW_FEATURES: True} if RAW_FEATURES in _arguments(module) else {}

    def network(x: Tensor) -> Tensor:
        try:
            return module(x, **options)
        except RuntimeError as error:
            raise ValueError(
                f"{path} cannot read images {tuple(x.shape)}: {str(error).strip().splitlines()[-1]}"
            ) from None

    def of(raw: np.ndarray) -> np.ndarray:
        return asked(network, pictures(raw, wish.transform, wish.size), wish.device)

    facts = {
        "name": name,
        "file": path.name,
        "sha256": sha256(path),
        "resize": said_of_resize(wish.size),
        "input": "RGB, 0 to 255",
    }
    shape = (2, *wish.transform.raw_shape)
    every = np.arange(np.prod(shape)) % (wish.transform.levels or 256)  # on black images dropout would not be seen
    return frozen(Features(of, facts), every.reshape(shape).astype(wish.transform.dtype))


def read_module(path: Path, device: torch.device) -> Any:
    """A TorchScript module, frozen. ValueError in one line if there is none in the file."""
    if not path.is_file():
        raise ValueError(f"--feature-file {path}: no such file; allowed: a TorchScript module (.pt)")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # there is no other reader of these files
            module = torch.jit.load(str(path), map_location=device)
    except RuntimeError as error:
        said = str(error).strip().splitlines()[0][:120]
        raise ValueError(f"{path} is no TorchScript module, or is cut short: {said}") from None
    module.eval()
    for parameter in module.parameters():
        parameter.requires_grad_(False)
    assert not module.training
    return module


def sha256(path: Path) -> str:
    """SHA-256 of a file, hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _arguments(module: Any) -> set[str]:
    return {argument.name for argument in module.forward.schema.arguments}
