"""The order of data in shards: every shard once an epoch, one rank a shard, nothing but (seed, step)."""

from __future__ import annotations

import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pytest

from logsnr.data.lanes import Lanes
from logsnr.data.order import share

SIZES = (30, 41, 17, 30, 52, 8, 30, 33, 29, 40, 5)
STARTS = np.cumsum((0, *SIZES))


def drawn(order: Lanes, steps: range, places: range | None = None) -> np.ndarray:
    """Examples by step and place."""
    return np.stack([order.drawn(step, places or range(order.batch_size))[0] for step in steps])


def shards(examples: np.ndarray) -> set[int]:
    return set((np.searchsorted(STARTS, examples.ravel(), side="right") - 1).tolist())


@pytest.mark.parametrize(("batch_size", "lanes"), [(1, 1), (12, 6), (64, 8), (110, 11), (7, 7), (13, 1)])
def test_lanes_are_the_largest_divisor_of_the_batch(batch_size: int, lanes: int) -> None:
    assert Lanes(SIZES, batch_size, 0, mixed=2).count == lanes
    assert Lanes((1,) * 1000, 128, 0, mixed=2).count == 64


@pytest.mark.parametrize("batch_size", [1, 12, 64, 13])
def test_no_example_is_far_ahead_of_another_and_none_is_dropped(batch_size: int) -> None:
    """Over many epochs, the numbers of times two examples were seen differ by one, or by two where an epoch ends."""
    order = Lanes(SIZES, batch_size, 3, mixed=2)
    steps = 20 * sum(SIZES) // batch_size
    seen = Counter(drawn(order, range(steps)).ravel().tolist())
    assert seen.keys() == set(range(sum(SIZES)))
    assert max(seen.values()) - min(seen.values()) <= 2


def test_equal_shards_that_lanes_divide_have_exact_epochs() -> None:
    whole = Lanes((10,) * 16, 8, 0, mixed=2)
    first, second = drawn(whole, range(20)), drawn(whole, range(20, 40))
    assert sorted(first.ravel()) == sorted(second.ravel()) == list(range(160))
    assert not np.array_equal(first, second)


@pytest.mark.parametrize("ranks", [2, 4, 8])
def test_ranks_draw_the_same_batches_and_share_no_shard_within_an_epoch(ranks: int) -> None:
    """Each rank with an object of its own, which has never seen another rank's places."""
    sizes, steps = (10,) * 16, range(20)
    whole = drawn(Lanes(sizes, 8, 5, mixed=2), steps)
    parts = [drawn(Lanes(sizes, 8, 5, mixed=2), steps, share(8, rank, ranks)) for rank in range(ranks)]
    assert np.array_equal(np.concatenate(parts, axis=1), whole)
    read = [set((part.ravel() // 10).tolist()) for part in parts]
    assert sum(map(len, read)) == len(set.union(*read)) == 16


def test_uneven_shards_belong_to_one_lane_of_each_epoch() -> None:
    order = Lanes(SIZES, 12, 1, mixed=3)
    for _ in range(12):
        order._deal(0)
    epochs: dict[int, list[int]] = {}
    for tape in order._tapes:
        for window in tape:
            epochs.setdefault(window.epoch, []).extend(window.shards)
    assert len(epochs) > 10
    assert all(sorted(each) == list(range(len(SIZES))) for each in epochs.values())
    ends = [tape[-1].start + sum(SIZES[shard] for shard in tape[-1].shards) for tape in order._tapes]
    assert max(ends) - min(ends) <= max(SIZES)


def test_any_step_is_had_without_the_steps_before_it() -> None:
    straight = drawn(Lanes(SIZES, 12, 7, mixed=2), range(120))
    for step in (0, 1, 57, 119):
        fresh = Lanes(SIZES, 12, 7, mixed=2)
        assert np.array_equal(fresh.drawn(step, range(12))[0], straight[step])


def test_steps_that_were_drawn_are_forgotten_and_drawn_again_when_asked_for() -> None:
    order = Lanes(SIZES, 12, 7, mixed=2)
    early, late = drawn(order, range(30)), drawn(order, range(3000, 3030))
    assert sum(map(len, order._tapes)) <= 2 * len(SIZES) + order.count
    assert np.array_equal(drawn(order, range(30)), early)
    assert np.array_equal(drawn(order, range(3000, 3030)), late)


def test_threads_draw_what_one_draws(request: pytest.FixtureRequest) -> None:
    request.addfinalizer(partial(sys.setswitchinterval, sys.getswitchinterval()))
    sys.setswitchinterval(1e-6)
    steps = range(0, 6000, 100)
    expected = [drawn(Lanes(SIZES, 12, 7, mixed=2), range(step, step + 1)) for step in steps]
    with ThreadPoolExecutor(8) as pool:
        order = Lanes(SIZES, 12, 7, mixed=2)
        found = list(pool.map(lambda step: drawn(order, range(step, step + 1)), steps))
    assert np.array_equal(found, expected)


def test_seeds_and_epochs_have_different_orders_and_half_is_mirrored() -> None:
    orders = [Lanes((50,) * 8, 8, seed, mixed=4) for seed in (0, 1)]
    one, other = (drawn(order, range(50)) for order in orders)
    assert not np.array_equal(one, other)
    assert not np.array_equal(one, drawn(orders[0], range(50, 100)))
    mirrored = np.concatenate([orders[0].drawn(step, range(8))[1] for step in range(100)])
    assert 0.45 < mirrored.mean() < 0.55


def test_examples_of_a_window_are_mixed() -> None:
    order = Lanes((100,) * 4, 1, 0, mixed=4)
    early = drawn(order, range(100)).ravel() // 100
    assert all(15 < count < 35 for count in Counter(early.tolist()).values())


def test_the_order_is_that_of_philox_words() -> None:
    # Recorded once: a change of these numbers breaks the resuming of every run on shards.
    assert Lanes(SIZES, 6, 5, mixed=2).drawn(9, range(6))[0].tolist() == [252, 171, 205, 154, 236, 50]


def test_ranks_that_would_share_a_lane_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^4 ranks for 11 shards .* 12, .* 6 lanes; allowed: 1, 2, 3, 6, or"):
        Lanes(SIZES, 12, 0, mixed=2).refuse(4)
