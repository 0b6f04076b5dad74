"""Families: data only. A recipe is a function that returns the words and numbers of a paper; all formulas are below.

A new family is one such function and one line here.
"""

from collections.abc import Callable
from typing import Any

from logsnr.families.ddpm import ddpm
from logsnr.families.edm import edm
from logsnr.families.flow import flow
from logsnr.families.iddpm import iddpm
from logsnr.families.ncsn import ncsn, ncsnv2
from logsnr.families.score_sde import subvp_sde, ve_sde, vp_sde
from logsnr.families.vdm import vdm

# A learning rate that suits a size of network, where the run does not say: small ones bear and need a larger one.
LEARNING_RATES = {"digits": 2e-3, "tiny": 2e-3, "small": 1e-3, "mlp-tiny": 2e-3, "mlp-small": 1e-3}
LEARNING_RATES |= {"ncsnpp-digits": 2e-3, "refinenet-digits": 2e-3, "dit-digits": 2e-3, "dit-small": 5e-4}
LEARNING_RATES |= {"ncsnpp-tiny": 2e-3, "refinenet-tiny": 2e-3, "dit-tiny": 2e-3}
LEARNING_RATES |= {"vdm-digits": 2e-3, "vdm-tiny": 2e-3, "vdm-small": 1e-3}
LEARNING_RATE = 2e-4  # DDPM's, for 35.7 million parameters

FAMILIES: dict[str, Callable[[], dict[str, Any]]] = {"ddpm": ddpm, "iddpm": iddpm, "ncsn": ncsn, "ncsnv2": ncsnv2}
FAMILIES |= {"ve-sde": ve_sde, "vp-sde": vp_sde, "subvp-sde": subvp_sde, "vdm": vdm}
FAMILIES |= {"edm": edm, "flow": flow}
