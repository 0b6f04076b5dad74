"""What a model is trained for: weight, law of t and target are three independent choices."""

from logsnr.objectives.matching import Matching as Matching
from logsnr.objectives.task import Task as Task
from logsnr.objectives.times import TIMES as TIMES
from logsnr.objectives.times import TimeLaw as TimeLaw
from logsnr.objectives.times import Uniform as Uniform
from logsnr.objectives.weights import WEIGHTS as WEIGHTS
