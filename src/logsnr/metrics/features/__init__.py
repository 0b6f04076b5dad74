"""Feature spaces: in which numbers sets are compared.

Each is a function of a `Wish` that gives a `Features`: from raw examples, in the data's own dtype
and range, to vectors.
"""

from collections.abc import Callable

from logsnr.metrics.features.classifier import classifier
from logsnr.metrics.features.features import Features as Features
from logsnr.metrics.features.features import Wish as Wish
from logsnr.metrics.features.features import extract as extract
from logsnr.metrics.features.inception import inception
from logsnr.metrics.features.pixels import pixels
from logsnr.metrics.features.scripted import script

FEATURES: dict[str, Callable[[Wish], Features]] = {
    "pixels": pixels,
    "classifier": classifier,
    "inception": inception,
    "script": script,
}
