"""Every schedule and every scale of the registries, so that a newcomer is tested by being registered."""

from __future__ import annotations

import pytest
import torch

from logsnr.path import Path
from logsnr.scales import SCALES, Scale
from logsnr.schedules import SCHEDULES, NoiseSchedule

torch.set_num_threads(1)


@pytest.fixture(params=SCHEDULES)
def schedule(request: pytest.FixtureRequest) -> NoiseSchedule:
    return SCHEDULES[request.param]().double()


@pytest.fixture(params=SCALES)
def scale(request: pytest.FixtureRequest) -> Scale:
    return SCALES[request.param]


@pytest.fixture
def path(schedule: NoiseSchedule, scale: Scale) -> Path:
    return Path(schedule, scale)
