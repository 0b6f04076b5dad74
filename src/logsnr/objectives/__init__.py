"""What a model is trained for: loss, weight, law of t and target are four independent choices."""

from collections.abc import Callable

from logsnr.objectives.importance import LossSecondMoment as LossSecondMoment
from logsnr.objectives.matching import Matching as Matching
from logsnr.objectives.noise_laws import NOISE_LAWS
from logsnr.objectives.objective import Objective as Objective
from logsnr.objectives.objective import Setting as Setting
from logsnr.objectives.simulated import ProcessScore as ProcessScore
from logsnr.objectives.simulated import Simulated as Simulated
from logsnr.objectives.sliced import Sliced as Sliced
from logsnr.objectives.sliced import sliced_score_matching as sliced_score_matching
from logsnr.objectives.task import Task as Task
from logsnr.objectives.times import TIMES as TIMES
from logsnr.objectives.times import TimeLaw as TimeLaw
from logsnr.objectives.times import Uniform as Uniform
from logsnr.objectives.times import UniformLogSNR as UniformLogSNR
from logsnr.objectives.variational import VLB as VLB
from logsnr.objectives.variational import Hybrid as Hybrid
from logsnr.objectives.vdm import VDM as VDM
from logsnr.objectives.weights import WEIGHTS as WEIGHTS

TIMES.update(NOISE_LAWS)
TIMES |= {"loss_second_moment": LossSecondMoment}

OBJECTIVES: dict[str, Callable[..., Objective]] = {"matching": Matching.of, "sliced": Sliced}
OBJECTIVES |= {"vlb": VLB.of, "hybrid": Hybrid.of, "vdm": VDM}
