"""Conditions as further channels of the input: for any network of the catalogue, its stem a little wider."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .layers import over


class Concatenated(nn.Module):
    """network([x, image, vector], label): x (B, C, *), image (B, channels + 1, *), vector (B, features + 1).

    The last channel of an image and the last feature of a vector say "given"; each feature of a vector becomes a
    constant channel. What is not given is 0 all along, which is also what a dropped condition looks like.

    Args:
        network: takes C and all the channels of the conditions, and answers for C.
        channels: of the condition image, without the one that says whether it is given; 0 for none.
        features: of the vector, likewise. For networks that have no better use of a vector.
    """

    def __init__(self, network: nn.Module, channels: int = 0, features: int = 0) -> None:
        super().__init__()
        self.network, self.channels, self.features = network, channels, features

    @staticmethod
    def width(channels: int, features: int) -> int:
        """Channels that are added to those of x."""
        return sum(size + 1 for size in (channels, features) if size)

    def forward(
        self,
        x: Tensor,
        label: Tensor,
        image: Tensor | None = None,
        vector: Tensor | None = None,
        **condition: Tensor,
    ) -> Tensor:
        seen = [x]
        if self.channels or image is not None:
            seen.append(self._given("image", image, x, (len(x), self.channels + 1, *x.shape[2:])))
        if self.features:
            constant = self._given("vector", vector, x, (len(x), self.features + 1))
            seen.append(over(constant, x).expand(-1, -1, *x.shape[2:]))
        elif vector is not None:
            condition["vector"] = vector
        answer: Tensor = self.network(torch.cat(seen, dim=1), label, **condition)
        return answer

    def _given(self, name: str, value: Tensor | None, x: Tensor, wanted: tuple[int, ...]) -> Tensor:
        value = x.new_zeros(wanted) if value is None else value
        if value.shape != wanted or not (self.channels if name == "image" else self.features):
            given = f"shape {tuple(value.shape)} beside x of shape {tuple(x.shape)}"
            raise ValueError(
                f"a condition {name} of {given}; this network takes {self.channels} channels beside x, "
                f"{self.features} features, and one more of each that says whether it is given"
            )
        return value.to(x)
