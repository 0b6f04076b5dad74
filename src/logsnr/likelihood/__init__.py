"""Likelihoods and their bounds, in nats for each example."""

from logsnr.likelihood.bound import BOUNDS as BOUNDS
from logsnr.likelihood.bound import Bound as Bound
from logsnr.likelihood.bound import bound as bound
from logsnr.likelihood.bound import bound_for as bound_for
from logsnr.likelihood.estimate import Estimate as Estimate
from logsnr.likelihood.estimate import Estimator as Estimator
from logsnr.likelihood.flow import Flow as Flow
from logsnr.likelihood.flow import FlowLikelihood as FlowLikelihood
from logsnr.likelihood.flow import ode as ode
