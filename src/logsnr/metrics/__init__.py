"""Is a set of examples like another? Float64 throughout; nothing here knows how the examples were made."""

from logsnr.metrics.c2st import c2st
from logsnr.metrics.channels import channel_moments
from logsnr.metrics.comparison import Comparison as Comparison
from logsnr.metrics.comparison import Examples as Examples
from logsnr.metrics.comparison import Figure as Figure
from logsnr.metrics.comparison import Measurement as Measurement
from logsnr.metrics.comparison import Metric as Metric
from logsnr.metrics.digits import check_digits as check_digits
from logsnr.metrics.features import FEATURES as FEATURES
from logsnr.metrics.features import Features as Features
from logsnr.metrics.features import Wish as Wish
from logsnr.metrics.frechet import FEWEST, fd
from logsnr.metrics.frechet import frechet_distance as frechet_distance
from logsnr.metrics.kernel import kd
from logsnr.metrics.likeness import Likeness as Likeness
from logsnr.metrics.likeness import likeness as likeness
from logsnr.metrics.memorisation import memorisation
from logsnr.metrics.moments import Moments as Moments
from logsnr.metrics.neighbours import Neighbourhoods as Neighbourhoods
from logsnr.metrics.prdc import prdc
from logsnr.metrics.sliced import sliced_wasserstein
from logsnr.metrics.spectral import spectral

METRICS: dict[str, Metric] = {
    "fd": Metric(fd, fewest=FEWEST),  # below it is a figure of N more than of the samples
    "kd": Metric(kd),
    "prdc": Metric(prdc),
    "sliced_wasserstein": Metric(sliced_wasserstein),
    "spectral": Metric(spectral),
    "channel_moments": Metric(channel_moments),
    "memorisation": Metric(memorisation),
    "c2st": Metric(c2st),
}
