"""Counter-based randomness: a draw is a function of its name, never of what was drawn before.

A generator with a hidden state makes the noise of example i depend on how many examples came before it: on the batch
split, the device count, the resume point. Here every number is the value of a block cipher at a counter,

    word = Philox4x32-10(key = hash(seed, name), counter = (block, example, step))     (Salmon et al. 2011)

so the noise of example i at step n is the same in a batch of one or of a thousand, on one rank or on many, in an
undisturbed run or a resumed one. Normals are Φ⁻¹(u): `ndtri` is evaluated element by element, whereas vectorised
`log` and `cos` may differ in the last bit between the body and the tail of an array.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

_MASK = 0xFFFFFFFF
_ROUNDS = 10
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)


def _multiply(constant: int, word: Tensor) -> tuple[Tensor, Tensor]:
    """High and low 32 bits of a 32 × 32 bit product; the int64 overflow is harmless because bits are masked."""
    product = word * constant
    return (product >> 32) & _MASK, product & _MASK


def philox(counter: tuple[Tensor, Tensor, Tensor, Tensor], key: tuple[int, int]) -> tuple[Tensor, ...]:
    """Philox4x32-10 of broadcastable int64 counters holding 32-bit words; returns four tensors of 32-bit words."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(_ROUNDS):
        high0, low0 = _multiply(_MULTIPLIERS[0], c0)
        high1, low1 = _multiply(_MULTIPLIERS[1], c2)
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
        k0, k1 = (k0 + _WEYL[0]) & _MASK, (k1 + _WEYL[1]) & _MASK
    return c0, c1, c2, c3


def _key(seed: int, name: str) -> tuple[int, int]:
    digest = hashlib.blake2b(f"{seed}/{name}".encode(), digest_size=8).digest()
    return int.from_bytes(digest[:4], "little"), int.from_bytes(digest[4:], "little")


@dataclass(frozen=True)
class Draws:
    """The random numbers of one step for the examples `index` of a global batch.

    seed: the run's seed. step: optimiser or sampling step, 0 <= step < 2**32. index: (B,) int64, the place of each
    example in the global batch (or its number in a sampling run). global_batch: the size that stratified times
    divide the unit interval by; the number of examples over all ranks.
    """

    seed: int
    step: int
    index: Tensor
    global_batch: int

    def _words(self, name: str, index: Tensor, count: int) -> Tensor:
        """(len(index), >= count) words in 0 .. 2**32 - 1; example i owns the counters (·, i, step)."""
        block = torch.arange(-(-count // 4), device=index.device)
        example = index.to(torch.int64).unsqueeze(-1)
        step = torch.full_like(block, self.step)
        counter = (block, example & _MASK, (example >> 32) & _MASK, step)
        words = torch.stack(torch.broadcast_tensors(*philox(counter, _key(self.seed, name))), dim=-1)
        return words.flatten(1)[:, :count]

    def uniform(self, name: str, shape: tuple[int, ...] = ()) -> Tensor:
        """Uniform numbers in the open interval (0, 1), float64, shape (B, *shape)."""
        words = self._words(name, self.index, max(1, math.prod(shape)))
        return ((words.double() + 0.5) / 2**32).reshape(len(self.index), *shape)

    def normal(self, name: str, like: Tensor) -> Tensor:
        """Standard normals of the shape, dtype and device of `like` (B, *)."""
        uniform = self.uniform(name, tuple(like.shape[1:]))
        return torch.special.ndtri(uniform).to(like)

    def stratified(self, name: str) -> Tensor:
        """Low-discrepancy times (u₀ + i/B) mod 1 over the global batch, float64, shape (B,) (VDM, appendix I.1).

        Each is uniform on [0, 1), together they fall once into every interval of length 1/B, on all ranks alike.
        """
        offset = replace(self, index=torch.zeros(1, dtype=torch.int64, device=self.index.device)).uniform(name)
        return (offset + self.index.double() / self.global_batch) % 1.0

    def rows(self, chosen: slice) -> Draws:
        """The draws of some of the examples: a micro-batch sees the numbers it would see in the whole batch."""
        return replace(self, index=self.index[chosen])


def dealt(count: int, seed: int | tuple[int, ...]) -> Tensor:
    """0 … count − 1 in a random order, int64: the strata of a data set's examples, one each.

    In the order of the data, which may be that of its classes, each class would see one stretch of `stratified` times.
    """
    return torch.from_numpy(np.random.default_rng(seed).permutation(count))
