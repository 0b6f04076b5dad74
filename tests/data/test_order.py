"""The order law: a batch is a function of (seed, step) and of nothing else."""

from __future__ import annotations

import itertools
import threading

import numpy as np
import pytest
import torch

from logsnr.data import Batches, Dataset, load


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load("digits", split="test")


@pytest.mark.parametrize("batch_size", [1, 7, 64, 497, 1200])
def test_every_example_once_per_epoch_and_nothing_dropped(digits: Dataset, batch_size: int) -> None:
    batches = Batches(digits, batch_size, seed=3)
    steps = -(-2 * len(digits) // batch_size)
    drawn = torch.cat([batches.at(step).examples for step in range(steps)])
    for epoch in range(2):
        positions = drawn[epoch * len(digits) : (epoch + 1) * len(digits)]
        assert torch.equal(positions.sort().values, torch.arange(len(digits)))


def test_the_order_does_not_depend_on_the_batch_size(digits: Dataset) -> None:
    small, large = Batches(digits, 5, seed=3), Batches(digits, 400, seed=3)
    drawn = torch.cat([small.at(step).examples for step in range(160)])
    assert torch.equal(drawn, torch.cat([large.at(step).examples for step in range(2)]))


def test_epochs_and_seeds_have_different_orders(digits: Dataset) -> None:
    def epoch(seed: int, number: int) -> list[int]:
        return Batches(digits, len(digits), seed).at(number).examples.tolist()

    orders = [epoch(0, 0), epoch(0, 1), epoch(1, 0), list(range(len(digits)))]
    assert all(a != b for a, b in itertools.combinations(orders, 2))


def test_the_order_is_that_of_philox_words(digits: Dataset) -> None:
    # Recorded once: a change of these numbers breaks the resuming of every run.
    assert Batches(digits, 6, seed=5).at(0).examples.tolist() == [483, 190, 374, 481, 197, 101]


def test_a_batch_holds_what_its_fields_say(digits: Dataset) -> None:
    batch = Batches(digits, 32, seed=0).at(20)
    assert batch.step == 20
    assert torch.equal(batch.index, torch.arange(32))
    x, condition = digits.batch(batch.examples)
    assert torch.equal(batch.x, x)
    assert digits.labels is not None
    assert torch.equal(batch.condition["classes"], digits.labels[batch.examples])
    assert torch.equal(condition["classes"], batch.condition["classes"])
    assert np.array_equal(digits.transform.decode(batch.x), digits.raw(batch.examples))


def test_resuming_in_the_middle_of_an_epoch_changes_nothing(digits: Dataset) -> None:
    batches = Batches(digits, 100, seed=0, flip=True)
    straight = list(itertools.islice(batches.iterate(), 12))
    resumed = list(itertools.islice(Batches(digits, 100, seed=0, flip=True).iterate(7), 5))
    for one, other, step in zip(straight[7:], resumed, range(7, 12), strict=True):
        direct = batches.at(step)
        assert one.step == other.step == direct.step == step
        assert torch.equal(one.examples, other.examples)
        assert torch.equal(one.x, other.x)
        assert torch.equal(one.x, direct.x)


@pytest.mark.parametrize(("batch_size", "ranks"), [(64, 2), (7, 3), (5, 5)])
def test_the_shares_of_all_ranks_are_the_batch(digits: Dataset, batch_size: int, ranks: int) -> None:
    whole = Batches(digits, batch_size, seed=3, flip=True)
    shares = [Batches(digits, batch_size, seed=3, flip=True, rank=r, ranks=ranks) for r in range(ranks)]
    for step in (0, 11):
        parts = [share.at(step) for share in shares]
        for name in ("x", "index", "examples"):
            assert torch.equal(torch.cat([getattr(part, name) for part in parts]), getattr(whole.at(step), name))
        assert max(map(len, (part.x for part in parts))) <= -(-batch_size // ranks)


def test_more_ranks_than_examples_are_refused(digits: Dataset) -> None:
    with pytest.raises(ValueError, match=r"4 ranks with batch size 3; allowed: at most a rank an example"):
        Batches(digits, 3, seed=0, rank=0, ranks=4)


def test_half_of_the_draws_are_mirrored_and_not_the_same_half_each_epoch(digits: Dataset) -> None:
    plain, mirrored = (Batches(digits, len(digits), seed=0, flip=flip) for flip in (False, True))
    masks = []
    for step in range(2):
        one, other = plain.at(step), mirrored.at(step)
        same = (one.x == other.x).flatten(1).all(1)
        turned = (one.x.flip(-1) == other.x).flatten(1).all(1)
        assert bool((same | turned).all())
        asymmetric = ~(same & turned)
        masks.append((turned & asymmetric)[one.examples.argsort()])
        assert 0.4 < (turned & asymmetric).float().mean().item() < 0.6
    assert not torch.equal(masks[0], masks[1])


def test_flip_refuses_what_is_not_an_image() -> None:
    with pytest.raises(ValueError, match="flip mirrors images"):
        Batches(load("toy:ring"), 4, 0, flip=True)


def test_the_reading_thread_ends_with_the_iterator(digits: Dataset) -> None:
    def readers() -> list[str]:
        return [thread.name for thread in threading.enumerate() if thread.name.startswith("batches")]

    iterator = Batches(digits, 16, seed=0).iterate()
    next(iterator)
    assert len(readers()) == 1
    iterator.close()
    assert not readers()
    for _ in Batches(digits, 16, seed=0).iterate():
        break
    assert not readers()


def test_an_error_of_the_reading_thread_reaches_the_caller(digits: Dataset) -> None:
    with pytest.raises(ValueError, match="broken"):
        next(Batches(_Broken(), 4, seed=0).iterate())  # type: ignore[arg-type]


class _Broken:
    shape = (2,)
    shards = None

    def __len__(self) -> int:
        return 10

    def batch(self, indices: object) -> None:
        raise ValueError("broken")


@pytest.mark.parametrize(("batch_size", "seed"), [(0, 0), (4, -1), (4, 2**64)])
def test_impossible_batches_are_refused(digits: Dataset, batch_size: int, seed: int) -> None:
    with pytest.raises(ValueError, match=r"batch size is 0|seed is"):
        Batches(digits, batch_size, seed)
