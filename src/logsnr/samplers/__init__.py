"""Samplers: one idea a file, one loop for all."""

from collections.abc import Callable
from functools import partial

from logsnr.samplers.adaptive import Adaptive as Adaptive
from logsnr.samplers.ancestral import Ancestral as Ancestral
from logsnr.samplers.annealed import AnnealedLangevin as AnnealedLangevin
from logsnr.samplers.corrector import CORRECTORS as CORRECTORS
from logsnr.samplers.ddim import DDIM as DDIM
from logsnr.samplers.dpm_adaptive import DPMAdaptive as DPMAdaptive
from logsnr.samplers.dpmpp_2m import DPMSolver2M as DPMSolver2M
from logsnr.samplers.encode import encode as encode
from logsnr.samplers.encode import slerp as slerp
from logsnr.samplers.euler import Euler as Euler
from logsnr.samplers.euler_ancestral import EulerAncestral as EulerAncestral
from logsnr.samplers.euler_maruyama import EulerMaruyama as EulerMaruyama
from logsnr.samplers.heun import Heun as Heun
from logsnr.samplers.interpolation import turned as turned
from logsnr.samplers.langevin import langevin_step as langevin_step
from logsnr.samplers.loop import Noise as Noise
from logsnr.samplers.loop import Sampler as Sampler
from logsnr.samplers.loop import Step as Step
from logsnr.samplers.loop import evaluations as evaluations
from logsnr.samplers.loop import prior as prior
from logsnr.samplers.loop import seeded as seeded
from logsnr.samplers.loop import simulate as simulate
from logsnr.samplers.metropolis import metropolis_step as metropolis_step
from logsnr.samplers.multistep import Multistep as Multistep
from logsnr.samplers.multistep import auto as auto
from logsnr.samplers.predictor_corrector import PredictorCorrector as PredictorCorrector
from logsnr.samplers.predictor_corrector import predictor_corrector as predictor_corrector
from logsnr.samplers.reverse_diffusion import ReverseDiffusion as ReverseDiffusion
from logsnr.samplers.singlestep import Singlestep as Singlestep

SAMPLERS: dict[str, Callable[..., Sampler]] = {
    "auto": auto,
    "ancestral": Ancestral,
    "ddim": DDIM,
    "euler": Euler,
    "euler_ancestral": EulerAncestral,
    "heun": Heun,
    "multistep": Multistep,
    "dpmpp_2m": DPMSolver2M,
    "singlestep": Singlestep,
    "dpm_adaptive": DPMAdaptive,
    "annealed_langevin": AnnealedLangevin,
    "euler_maruyama": EulerMaruyama,
    "reverse_diffusion": ReverseDiffusion,
    "adaptive": Adaptive,
}
SAMPLERS["predictor_corrector"] = partial(predictor_corrector, SAMPLERS)
