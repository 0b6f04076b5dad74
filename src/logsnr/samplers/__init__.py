"""Samplers: one idea a file, one loop for all."""

from collections.abc import Callable
from functools import partial

from logsnr.samplers.adaptive import Adaptive as Adaptive
from logsnr.samplers.ancestral import Ancestral as Ancestral
from logsnr.samplers.annealed import AnnealedLangevin as AnnealedLangevin
from logsnr.samplers.corrector import CORRECTORS as CORRECTORS
from logsnr.samplers.ddim import DDIM as DDIM
from logsnr.samplers.encode import encode as encode
from logsnr.samplers.encode import slerp as slerp
from logsnr.samplers.euler_maruyama import EulerMaruyama as EulerMaruyama
from logsnr.samplers.interpolation import turned as turned
from logsnr.samplers.loop import Noise as Noise
from logsnr.samplers.loop import Sampler as Sampler
from logsnr.samplers.loop import Step as Step
from logsnr.samplers.loop import evaluations as evaluations
from logsnr.samplers.loop import prior as prior
from logsnr.samplers.loop import seeded as seeded
from logsnr.samplers.loop import simulate as simulate
from logsnr.samplers.predictor_corrector import PredictorCorrector as PredictorCorrector
from logsnr.samplers.predictor_corrector import predictor_corrector as predictor_corrector
from logsnr.samplers.reverse_diffusion import ReverseDiffusion as ReverseDiffusion

SAMPLERS: dict[str, Callable[..., Sampler]] = {"ancestral": Ancestral, "ddim": DDIM}
SAMPLERS["annealed_langevin"] = AnnealedLangevin
SAMPLERS["euler_maruyama"] = EulerMaruyama
SAMPLERS["reverse_diffusion"] = ReverseDiffusion
SAMPLERS["adaptive"] = Adaptive
SAMPLERS["predictor_corrector"] = partial(predictor_corrector, SAMPLERS)
