"""A chain of 1000 steps holds as much as one of 10: nothing of a step outlives the next."""

from __future__ import annotations

import gc

import pytest
import torch
from torch import Tensor

from logsnr import BetaLinear, Path, vp
from logsnr.level import Level
from logsnr.run.generate import standard_normal
from logsnr.samplers import DDIM, Ancestral, Heun, Multistep, PredictorCorrector, Sampler, prior, seeded, simulate
from logsnr.samplers.corrector import CORRECTORS
from logsnr.samplers.singlestep import Singlestep

PATH = Path(BetaLinear(), vp)


def live_bytes() -> int:
    """Of the memory of every tensor that something still refers to, each counted once."""
    gc.collect()
    found = {}
    for thing in gc.get_objects():
        if type(thing) in (Tensor, torch.nn.Parameter):
            memory = thing.untyped_storage()
            found[memory.data_ptr()] = memory.nbytes()
    return sum(found.values())


def held(sampler: Sampler, levels: Level, x: Tensor) -> list[int]:
    """Live bytes beside the grid's after the tenth part of a chain, its middle and its last step."""
    noise = seeded(0, torch.arange(len(x)), x)
    count = len(levels.t) - 1
    own = sum(part.nbytes for part in (levels.t, levels.gamma, levels.log_alpha, levels.log_sigma))
    seen = []
    for i, step in enumerate(simulate(sampler, standard_normal, prior(PATH, noise), levels, noise=noise), 1):
        if i in (count // 2, count - 1, count):
            seen.append(live_bytes() - own)
        del step
    return seen


@pytest.mark.parametrize(
    "sampler",
    [
        DDIM(),
        Ancestral(),
        Heun(),
        Multistep(order=3),
        Singlestep(PATH, order=3),
        PredictorCorrector(DDIM(), CORRECTORS["langevin"]()),
    ],
    ids=lambda sampler: type(sampler).__name__,
)
def test_what_is_alive_does_not_grow_with_the_steps(sampler: Sampler) -> None:
    x = torch.empty(4, 3, 4, 4)
    few, many = (held(sampler, PATH.grid(count), x) for count in (10, 1000))
    assert few == many
    assert max(few) - min(few) < 4 * x.nbytes  # of a step, its memory and its mean
