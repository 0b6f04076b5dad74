"""Named sizes of networks: data only.

Every option of a network is spelt out, so that what a name meant when a checkpoint was written is in the
checkpoint. For vectors a name stands for its `mlp-` namesake.
"""

from __future__ import annotations

from typing import Any

_UNET: dict[str, Any] = {
    "network": "unet",
    "channels": 64,
    "multipliers": [1, 2, 2],
    "blocks": 2,
    "attention": [4],
    "heads": 1,
    "head_width": None,
    "dropout": 0.0,
    "scale_shift": True,
    "resample": "conv",
    "checkpointing": False,
}
_VDM: dict[str, Any] = {
    "network": "vdm_unet",
    "channels": 32,
    "depth": 2,
    "fourier": "auto",
    "label_range": [-13.3, 5.0],
    "base_measure": True,
    "attention": False,
    "scale_shift": False,
    "dropout": 0.0,
    "checkpointing": False,
}
_MLP: dict[str, Any] = {"network": "mlp", "width": 256, "blocks": 3, "dropout": 0.0}

SIZES: dict[str, dict[str, Any]] = {
    "digits": _UNET | {"channels": 24, "multipliers": [1, 2], "blocks": 1, "attention": []},
    "tiny": _UNET | {"channels": 16, "multipliers": [1, 2], "blocks": 1, "attention": []},
    "small": _UNET | {"channels": 32, "multipliers": [1, 2, 2], "blocks": 1, "attention": [4]},
    "base": _UNET | {"channels": 96, "multipliers": [1, 2, 2, 2], "attention": [2, 4], "head_width": 64},
    "large": _UNET | {"channels": 128, "multipliers": [1, 1, 2, 3, 4], "attention": [8, 16], "head_width": 64},
    # Ho et al. 2020, appendix B: 35.7 million parameters.
    "ddpm-cifar10": _UNET
    | {"channels": 128, "multipliers": [1, 2, 2, 2], "attention": [2], "dropout": 0.1, "scale_shift": False},
    "vdm-tiny": _VDM | {"channels": 16, "depth": 1},
    "vdm-digits": _VDM,
    "vdm-small": _VDM | {"channels": 48, "depth": 4},
    # Kingma et al. 2021, appendix B.1: 32 blocks of 128 channels.
    "vdm-cifar10": _VDM | {"channels": 128, "depth": 32, "dropout": 0.1},
    "mlp-tiny": _MLP | {"width": 64, "blocks": 2},
    "mlp-small": _MLP,
    "mlp-base": _MLP | {"width": 512, "blocks": 6},
    "mlp-large": _MLP | {"width": 1024, "blocks": 8},
}
