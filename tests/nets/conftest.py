from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn


def _awaken(network: nn.Module) -> nn.Module:
    """The network in eval mode with every parameter random, so that no branch is silent."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            fan = parameter[0].numel() if parameter.ndim > 1 else 4
            parameter.normal_(0.0, fan**-0.5, generator=generator)
    return network.eval()


@pytest.fixture
def awaken() -> Callable[[nn.Module], nn.Module]:
    torch.manual_seed(0)
    return _awaken
