"""A condition image as further channels of the input: any network of the catalogue, its stem a little wider."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Concatenated(nn.Module):
    """network([x, image], label, **condition): x (B, C, *), image (B, channels + 1, *), whose last channel says "given".

    Without an image all of its channels are 0, which is what a dropped one looks like.

    Args:
        network: takes C + channels + 1 channels and answers for C.
        channels: of the condition image, without the one that says whether it is given.
    """

    def __init__(self, network: nn.Module, channels: int) -> None:
        super().__init__()
        self.network, self.channels = network, channels

    def forward(self, x: Tensor, label: Tensor, image: Tensor | None = None, **condition: Tensor) -> Tensor:
        wanted = (len(x), self.channels + 1, *x.shape[2:])
        if image is None:
            image = x.new_zeros(wanted)
        if image.shape != wanted:
            raise ValueError(
                f"an image of shape {tuple(image.shape)} beside x of shape {tuple(x.shape)}; allowed: {wanted}"
            )
        answer: Tensor = self.network(torch.cat([x, image.to(x)], dim=1), label, **condition)
        return answer
