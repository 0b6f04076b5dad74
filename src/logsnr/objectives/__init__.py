"""What a model is trained for: loss, weight, law of t and target are four independent choices."""

from collections.abc import Callable

from logsnr.objectives.matching import Matching as Matching
from logsnr.objectives.noise_laws import NOISE_LAWS
from logsnr.objectives.objective import Objective as Objective
from logsnr.objectives.objective import Setting as Setting
from logsnr.objectives.task import Task as Task
from logsnr.objectives.times import TIMES as TIMES
from logsnr.objectives.times import TimeLaw as TimeLaw
from logsnr.objectives.times import Uniform as Uniform
from logsnr.objectives.weights import WEIGHTS as WEIGHTS

TIMES.update(NOISE_LAWS)

OBJECTIVES: dict[str, Callable[..., Objective]] = {"matching": Matching.of}
