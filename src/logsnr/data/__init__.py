"""Data: from one string to batches in model units, and back to the data's own numbers.

``load("digits")`` returns a :class:`Dataset`; its :class:`Transform` maps raw data to model units and back
and knows the number of grey levels; :class:`Batches` says which examples each optimiser step sees.
"""

from logsnr.data.conditions import CONDITIONS, Conditions
from logsnr.data.order import Batch, Batches
from logsnr.data.record import Dataset
from logsnr.data.sources import READERS, load
from logsnr.data.toys import TOYS, Mixture
from logsnr.data.transform import Lattice, Transform

__all__ = [
    "CONDITIONS",
    "READERS",
    "TOYS",
    "Batch",
    "Batches",
    "Conditions",
    "Dataset",
    "Lattice",
    "Mixture",
    "Transform",
    "load",
]
