"""Counter-based randomness: known answers, independence of the batch, and the laws of the numbers."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from scipy import stats

from logsnr.draws import Draws, dealt, philox


def draws(count: int, seed: int = 3, step: int = 5, start: int = 0) -> Draws:
    return Draws(seed, step, torch.arange(start, start + count), count)


KNOWN = [  # Random123, kat_vectors: philox4x32, 10 rounds
    ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
]


@pytest.mark.parametrize(("counter", "key", "answer"), KNOWN)
def test_philox_known_answers(counter: str, key: str, answer: str) -> None:
    c0, c1, c2, c3 = (torch.tensor([int(word, 16)]) for word in counter.split())
    k0, k1 = (int(word, 16) for word in key.split())
    assert " ".join(f"{int(word):08x}" for word in philox((c0, c1, c2, c3), (k0, k1))) == answer


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_an_example_is_bit_equal_in_any_batch(dtype: torch.dtype) -> None:
    whole = draws(13).normal("eps", torch.empty(13, 3, 7, 5, dtype=dtype))
    for chosen in [[4], [0, 1, 2], [12, 3, 7, 0], list(range(5, 13))]:
        part = replace(draws(13), index=torch.tensor(chosen)).normal(
            "eps", torch.empty(len(chosen), 3, 7, 5, dtype=dtype)
        )
        assert torch.equal(part, whole[chosen])
    rows = draws(13).rows(slice(4, 9)).normal("eps", torch.empty(5, 3, 7, 5, dtype=dtype))
    assert torch.equal(rows, whole[4:9])


def test_a_shorter_draw_is_a_prefix_of_a_longer_one() -> None:
    longest = draws(2).uniform("u", (101,))
    for count in range(1, 101):
        assert torch.equal(draws(2).uniform("u", (count,)), longest[:, :count])
    assert torch.equal(draws(2).uniform("u", (5, 20)).flatten(1), longest[:, :100])
    assert torch.equal(draws(2).uniform("u"), longest[:, 0])


def test_float32_noise_is_the_cast_of_float64_noise() -> None:
    exact = draws(4).normal("eps", torch.empty(4, 9, dtype=torch.float64))
    assert torch.equal(draws(4).normal("eps", torch.empty(4, 9)), exact.float())


def test_seed_step_name_and_example_give_unrelated_streams() -> None:
    like = torch.empty(1, 20_000, dtype=torch.float64)
    base = draws(1)
    streams = [base.normal("eps", like)]
    streams += [replace(base, seed=seed).normal("eps", like) for seed in (0, 2, 4, 3 + 2**32, -3)]
    streams += [replace(base, step=step).normal("eps", like) for step in (0, 4, 6, 2**32 - 1)]
    streams += [base.normal(name, like) for name in ("eps/", "t", "3/eps")]
    streams += [replace(base, index=torch.tensor([i])).normal("eps", like) for i in (1, 2, 2**32, 2**40)]
    correlation = torch.corrcoef(torch.cat(streams))
    assert (correlation - torch.eye(len(streams))).abs().max() < 5 / math.sqrt(20_000)
    lagged = torch.corrcoef(torch.stack([streams[0][0, :-1], streams[0][0, 1:]]))[0, 1]
    assert abs(lagged) < 4 / math.sqrt(20_000)


def test_uniform_and_normal_laws() -> None:
    u = draws(50).uniform("u", (2000,)).flatten()
    z = draws(50).normal("z", torch.empty(50, 2000, dtype=torch.float64)).flatten()
    assert stats.kstest(u.numpy(), "uniform").pvalue > 0.01
    assert stats.kstest(z.numpy(), "norm").pvalue > 0.01
    se = 1 / math.sqrt(len(z))
    for power, moment, variance in [(1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)]:
        assert abs(z.pow(power).mean() - moment) < 3 * se * math.sqrt(variance)


def test_the_extreme_words_are_inside_the_open_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Draws, "_words", lambda self, name, index, count: torch.tensor([[0, 2**32 - 1]]))
    u = draws(1).uniform("u", (2,))
    assert u.min() > 0
    assert u.max() < 1
    z = draws(1).normal("z", torch.empty(1, 2, dtype=torch.float64))[0]
    assert z.tolist() == pytest.approx([-6.33, 6.33], abs=0.01)


@pytest.mark.parametrize("batch", [1, 2, 10, 49, 61, 98, 103, 109, 1000])
def test_stratified_times_fall_once_into_each_interval(batch: int) -> None:
    for seed in range(20):
        t = draws(batch, seed).stratified("t")
        assert t.shape == (batch,)
        assert ((t >= 0) & (t < 1)).all()
        # from the first point on, neighbours are 1/B apart, and so each interval of length 1/B holds one
        assert torch.allclose(t.sort().values.diff(), torch.full((batch - 1,), 1 / batch, dtype=t.dtype), atol=1e-12)
        assert sorted((t * batch).floor().int().tolist()) == list(range(batch))


def test_stratified_times_of_two_ranks_are_those_of_one() -> None:
    whole = draws(12).stratified("t")
    for rank in (0, 1):
        part = replace(draws(12), index=torch.arange(rank, 12, 2)).stratified("t")
        assert torch.equal(part, whole[rank::2])
    assert torch.equal(draws(12).rows(slice(3, 8)).stratified("t"), whole[3:8])


@pytest.mark.parametrize("example", [0, 7])
def test_each_stratified_time_is_uniform(example: int) -> None:
    times = [float(draws(10, step=step).stratified("t")[example]) for step in range(1000)]
    assert stats.kstest(times, "uniform").pvalue > 0.01


def test_strata_are_dealt_so_that_a_class_sees_every_time() -> None:
    """Half of the data, in its own order, has the integrand t: its mean over a quarter is as good as stratified."""
    count, half = 400, 200
    errors = {True: [], False: []}
    for seed in range(40):
        for deal in errors:
            index = dealt(count, seed) if deal else torch.arange(count)
            t = Draws(seed, 0, index, count).stratified("t")
            errors[deal].append(float(t[:half].mean()) - 0.5)
    spread = {deal: torch.tensor(found).std() for deal, found in errors.items()}
    assert torch.equal(dealt(count, 3).sort().values, torch.arange(count))
    assert spread[False] > 0.1
    assert spread[True] < 0.03
