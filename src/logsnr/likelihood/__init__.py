"""Likelihoods and their bounds, in nats for each example."""

from logsnr.likelihood.bound import Bound as Bound
from logsnr.likelihood.bound import bound as bound
