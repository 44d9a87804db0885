"""The plan: every sample once, evenly shuffled, the same on every machine."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from pipeline import plan

# order(0, 0, 8), windowed_order(0, 0, [3, 3, 2], 2), draw(1, 2, [3])
ORDER = [5, 0, 6, 1, 7, 2, 4, 3]
WINDOWED = [5, 3, 7, 4, 6, 0, 2, 1]
DRAWS = [
    [0.6059705328321963],
    [0.6169796003277446],
    [0.9970256462559475],
    [0.057995370987317774],
    [0.21794860491826407],
    [0.691723079663366],
]


@pytest.mark.parametrize("count", [1, 2, 7, 1000])
def test_an_order_holds_every_sample_once(count: int) -> None:
    assert sorted(plan.order(3, 5, count)) == list(range(count))


def test_orders_differ_by_seed_and_epoch_and_by_nothing_else() -> None:
    orders = [tuple(plan.order(seed, epoch, 50)) for seed in range(3) for epoch in range(3)]
    assert len(set(orders)) == 9
    assert tuple(plan.order(2, 1, 50)) == orders[7]


def test_neighbors_of_large_seeds_differ() -> None:
    seeds = [plan.MAX_SEED, plan.MAX_SEED - 1, 2**62, 2**62 + 1, 2**53 + 1, 2**53]
    assert len({tuple(plan.order(seed, 0, 50)) for seed in seeds}) == len(seeds)
    assert len({plan.draw(0, seed, np.array([1])).scale[0] for seed in seeds}) == len(seeds)


def test_the_numbers_are_those_of_earlier_versions() -> None:
    """A checkpoint names a place in the stream: other numbers under an old name would go unnoticed."""
    assert plan.order(0, 0, 8).tolist() == ORDER
    assert plan.windowed_order(0, 0, [3, 3, 2], 2).tolist() == WINDOWED
    draws = plan.draw(1, 2, np.array([3]))
    np.testing.assert_array_equal([draws.scale, draws.angle, draws.top, draws.left, draws.flip, draws.blur], DRAWS)


def test_every_sample_comes_anywhere_equally_often() -> None:
    # 4000 epochs of 10 samples: 400 visits expected in each of the 10 x 10 cells.
    counts = np.zeros((10, 10))
    for epoch in range(4000):
        counts[np.arange(10), plan.order(1, epoch, 10)] += 1
    # Rows and columns sum to 4000: 81 degrees of freedom.
    assert stats.chi2.sf(((counts - 400) ** 2 / 400).sum(), 81) > 1e-4


def test_draws_belong_to_the_sample_not_to_its_batch() -> None:
    together = plan.draw(1, 2, np.array([5, 900, 7]))
    alone = plan.draw(1, 2, np.array([900]))
    assert all(getattr(together, name)[1] == getattr(alone, name)[0] for name in ("scale", "angle", "left", "blur"))
    others = [plan.draw(seed, epoch, np.array([900])).scale[0] for seed, epoch in [(1, 3), (2, 2), (2, 1), (0, 0)]]
    assert len({alone.scale[0], *others}) == 5


@pytest.mark.parametrize("world", [1, 2, 3, 8])
def test_shares_are_the_order_dealt_out(world: int) -> None:
    order = plan.order(0, 0, 100)
    batch = 24 // world
    steps = plan.steps_per_epoch(100, world * batch)
    dealt = [
        sample
        for step in range(steps)
        for rank in range(world)
        for sample in order[plan.positions(step * world * batch, rank, batch)]
    ]
    assert dealt == order[: steps * world * batch].tolist() and steps == 4


# --- windows of shards ---

COUNTS = [5, 9, 1, 7, 8, 6, 3]


def shard_of(samples: np.ndarray) -> np.ndarray:
    return np.searchsorted(np.cumsum(COUNTS), samples, side="right")


@pytest.mark.parametrize("window", [0, 1, 2, 3, 7, 100])
def test_a_windowed_order_holds_every_sample_once(window: int) -> None:
    for epoch in range(5):
        assert sorted(plan.windowed_order(3, epoch, COUNTS, window)) == list(range(39))


def test_without_a_window_it_is_the_plain_order() -> None:
    np.testing.assert_array_equal(plan.windowed_order(4, 2, COUNTS, 0), plan.order(4, 2, 39))


@pytest.mark.parametrize("window", [1, 2, 3])
def test_a_group_is_finished_before_the_next_is_opened(window: int) -> None:
    for epoch in range(20):
        seen = shard_of(plan.windowed_order(3, epoch, COUNTS, window))
        open_at = [{shard for shard in range(7) if shard in seen[:i] and shard in seen[i:]} for i in range(39)]
        assert max(len(shards) for shards in open_at) <= window
        if window > 1:  # and inside a group the shards are mixed, not one after another
            assert (np.diff(seen) != 0).sum() > 9


def test_windows_shuffle_the_shards_and_their_samples_evenly() -> None:
    epochs = 3000
    alone, first_of_shard, together = np.zeros(7), np.zeros(9), np.zeros((7, 7))
    for epoch in range(epochs):
        order = plan.windowed_order(9, epoch, COUNTS, 2)
        shards = shard_of(order)
        opened = list(dict.fromkeys(shards.tolist()))  # two by two, and the odd one out at the end
        alone[opened[-1]] += 1
        for first in (0, 2, 4):
            a, b = sorted(opened[first : first + 2])
            together[a, b] += 1
        first_of_shard[order[shards == 1][0] - 5] += 1
    assert stats.chisquare(alone).pvalue > 1e-4
    assert stats.chisquare(first_of_shard).pvalue > 1e-4
    assert stats.chisquare(together[np.triu_indices(7, 1)]).pvalue > 1e-4


def test_a_window_over_all_shards_shuffles_as_no_window_does() -> None:
    counts = np.zeros((9, 9))
    for epoch in range(3600):
        counts[np.arange(9), plan.windowed_order(1, epoch, [2, 3, 4], 3)] += 1
    assert stats.chi2.sf(((counts - 400) ** 2 / 400).sum(), 64) > 1e-4
