"""Likelihoods and their bounds, in nats for each example."""

from collections.abc import Callable

from logsnr.likelihood.bound import BOUNDS as BOUNDS
from logsnr.likelihood.bound import Bound as Bound
from logsnr.likelihood.bound import bound as bound
from logsnr.likelihood.bound import bound_for as bound_for
from logsnr.likelihood.continuous import fitted_schedule as fitted_schedule
from logsnr.likelihood.continuous import vlb_inf as vlb_inf
from logsnr.likelihood.estimate import Estimate as Estimate
from logsnr.likelihood.estimate import Estimator as Estimator
from logsnr.likelihood.flow import Flow as Flow
from logsnr.likelihood.flow import FlowLikelihood as FlowLikelihood
from logsnr.likelihood.flow import ode as ode
from logsnr.likelihood.importance import tightened as tightened
from logsnr.likelihood.plan import best_plan as best_plan
from logsnr.likelihood.trajectories import Trajectories as Trajectories
from logsnr.likelihood.trajectories import chain_trajectories, vdm_trajectories

Factory = Callable[..., Estimator]

ESTIMATORS: dict[str, dict[str, Factory]] = {
    "chain": {"vlb": BOUNDS["chain"], "vlb_inf": vlb_inf, "iwae": chain_trajectories, "ode": ode},
    "vdm": {"vlb": BOUNDS["vdm"], "vlb_inf": vlb_inf, "iwae": vdm_trajectories, "ode": ode},
}
"""Estimators by the run's kind of bound and by name: (path, variance, lattice, **options) → Estimator."""
