"""Samplers: one idea a file, one loop for all."""

from collections.abc import Callable

from logsnr.samplers.ancestral import Ancestral as Ancestral
from logsnr.samplers.ddim import DDIM as DDIM
from logsnr.samplers.dpmpp_2m import DPMSolver2M as DPMSolver2M
from logsnr.samplers.euler import Euler as Euler
from logsnr.samplers.euler_ancestral import EulerAncestral as EulerAncestral
from logsnr.samplers.heun import Heun as Heun
from logsnr.samplers.loop import Noise as Noise
from logsnr.samplers.loop import Sampler as Sampler
from logsnr.samplers.loop import Step as Step
from logsnr.samplers.loop import evaluations as evaluations
from logsnr.samplers.loop import prior as prior
from logsnr.samplers.loop import seeded as seeded
from logsnr.samplers.loop import simulate as simulate
from logsnr.samplers.multistep import Multistep as Multistep
from logsnr.samplers.multistep import auto as auto

SAMPLERS: dict[str, Callable[..., Sampler]] = {
    "auto": auto,
    "ancestral": Ancestral,
    "ddim": DDIM,
    "euler": Euler,
    "euler_ancestral": EulerAncestral,
    "heun": Heun,
    "multistep": Multistep,
    "dpmpp_2m": DPMSolver2M,
}
