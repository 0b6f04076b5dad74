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
    "groups": None,
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
_NCSNPP: dict[str, Any] = {
    "network": "ncsnpp",
    "channels": 128,
    "multipliers": [1, 2, 2, 2],
    "blocks": 4,
    "attention": [2],
    "heads": 1,
    "dropout": 0.1,
    "resample": "fir",
    "rescale": True,
    "progressive_input": "residual",
    "progressive_output": "none",
    "combine": "sum",
    "embedding": "fourier",
    "fourier_scale": 16.0,
    "checkpointing": False,
}
_NCSNPP_SMALL = _NCSNPP | {"multipliers": [1, 2], "blocks": 1, "attention": [], "dropout": 0.0, "fourier_scale": 1.0}
_DDPMPP = _NCSNPP | {"resample": "box", "progressive_input": "none", "embedding": "positional"}
_REFINENET: dict[str, Any] = {
    "network": "refinenet",
    "channels": 128,
    "multipliers": [1, 2, 2, 2],
    "dilations": [1, 1, 2, 4],
    "levels": 0,
    "norm": "stages",
    "pool": "max",
    "checkpointing": False,
}
_DIT: dict[str, Any] = {
    "network": "dit",
    "patch": 2,
    "width": 384,
    "depth": 12,
    "heads": 6,
    "expansion": 4,
    "frequencies": 256,
    "dropout": 0.0,
    "checkpointing": False,
}

SIZES: dict[str, dict[str, Any]] = {
    "digits": _UNET | {"channels": 32, "multipliers": [1, 2], "blocks": 1, "attention": []},
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
    "ncsnpp-tiny": _NCSNPP_SMALL | {"channels": 16},
    "ncsnpp-digits": _NCSNPP_SMALL | {"channels": 20},
    # Song et al. 2021, appendix H: 62.8 and 61.8 million parameters; "deep", with twice the blocks, 107.6 and 106.6.
    "ncsnpp-cifar10": _NCSNPP,
    "ncsnpp-cifar10-deep": _NCSNPP | {"blocks": 8},
    "ddpmpp-cifar10": _DDPMPP,
    "ddpmpp-cifar10-deep": _DDPMPP | {"blocks": 8},
    "refinenet-tiny": _REFINENET | {"channels": 12, "multipliers": [1, 2], "dilations": [1, 1]},
    "refinenet-digits": _REFINENET | {"channels": 16, "multipliers": [1, 2, 2], "dilations": [1, 1, 2]},
    # Song & Ermon 2020: 29.7 million parameters; Song & Ermon 2019, with the level in every normalisation.
    "refinenet-cifar10": _REFINENET,
    "refinenet-cifar10-levels": _REFINENET | {"levels": 10, "norm": "everywhere", "pool": "average"},
    "dit-tiny": _DIT | {"width": 32, "depth": 2, "heads": 2, "frequencies": 32},
    "dit-digits": _DIT | {"width": 64, "depth": 4, "heads": 4, "frequencies": 64},
    "dit-small": _DIT | {"width": 256, "depth": 8, "heads": 4},
    # Peebles & Xie 2023, table 1, for latents of 4 channels, 1000 classes and a learned variance: 33, 130, 675 million.
    "dit-s2": _DIT,
    "dit-b2": _DIT | {"width": 768, "heads": 12},
    "dit-xl2": _DIT | {"width": 1152, "depth": 28, "heads": 16},
}
