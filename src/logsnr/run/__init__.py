"""The room that knows everything: it joins a configuration to networks, data and trainer."""

from logsnr.run.trained import Trained as Trained
from logsnr.run.trained import load as load
