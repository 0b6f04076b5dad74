"""Networks: modules called as `network(x, label, **condition)`; they know x, a label, keywords; no noise.

x is (B, D) or (B, C, *spatial), `label` (B,) float, as scaled by the caller, `classes` (B,) int64, `vector`
(B, F + 1), `image` (B, C' + 1, *spatial); the result has the batch and the spatial axes of x.
"""

from .blocks import Attention as Attention
from .blocks import ResBlock as ResBlock
from .catalogue import NETWORKS as NETWORKS
from .catalogue import OUTPUTS as OUTPUTS
from .catalogue import build as build
from .catalogue import configure as configure
from .catalogue import construct as construct
from .catalogue import default_size as default_size
from .concatenated import Concatenated as Concatenated
from .dit import DiT as DiT
from .dit import DiTOptions as DiTOptions
from .embeddings import Conditioning as Conditioning
from .embeddings import FourierFeatures as FourierFeatures
from .embeddings import sinusoidal as sinusoidal
from .energy import Energy as Energy
from .instance_norm import InstanceNorm as InstanceNorm
from .mlp import MLP as MLP
from .ncsnpp import NCSNpp as NCSNpp
from .ncsnpp import NCSNppOptions as NCSNppOptions
from .refinenet import RefineNet as RefineNet
from .refinenet import RefineNetOptions as RefineNetOptions
from .sizes import SIZES as SIZES
from .unet import UNet as UNet
from .unet import UNetOptions as UNetOptions
from .vdm_unet import VDMUNet as VDMUNet
from .vdm_unet import fourier_features as fourier_features
from .vdm_unet import positional as positional
