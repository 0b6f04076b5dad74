"""Is a set of examples like another? Float64 throughout; nothing here knows how the examples were made."""

from logsnr.metrics.digits import check_digits as check_digits
from logsnr.metrics.frechet import frechet_distance as frechet_distance
from logsnr.metrics.likeness import Likeness as Likeness
from logsnr.metrics.likeness import likeness as likeness
from logsnr.metrics.neighbours import Neighbourhoods as Neighbourhoods
