"""The plan: which sample stands at which place of the stream, and the random numbers that augment it.

Pure functions of (seed, epoch, sample) through a counter-based generator (numpy's Philox), so that the stream depends
on nothing else: not on the number of ranks or threads, the prefetch depth, the device, nor on an interruption.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

MAX_SEED = 2**63 - 1  # of epochs too

# Philox's key is (seed, epoch); its counter's last word keeps the uses of one key apart.
_ORDER, _DRAWS, _PLACES, _AIMED, _LONG_ORDER, _POOL, _FOLDER = range(7)


@dataclass(frozen=True)
class Draws:
    """The random numbers of B samples, each float64 [B], uniform in [0, 1). Geometry, blur and colors scale them.

    All are drawn for every sample, used or not, so that switching one augmentation off leaves the others unchanged. New
    ones are appended: those before keep their values.
    """

    scale: NDArray[np.float64]
    angle: NDArray[np.float64]
    top: NDArray[np.float64]
    left: NDArray[np.float64]
    flip: NDArray[np.float64]
    blur: NDArray[np.float64]
    vertical_flip: NDArray[np.float64]
    turn: NDArray[np.float64]
    brightness: NDArray[np.float64]
    contrast: NDArray[np.float64]
    saturation: NDArray[np.float64]
    hue: NDArray[np.float64]
    gray: NDArray[np.float64]
    erase: NDArray[np.float64]
    erase_area: NDArray[np.float64]
    erase_aspect: NDArray[np.float64]
    erase_top: NDArray[np.float64]
    erase_left: NDArray[np.float64]

    @staticmethod
    def of(numbers: NDArray[np.float64]) -> Draws:
        """From float64 [B, NUMBERS]."""
        return Draws(*numbers.T)


NUMBERS = len(fields(Draws))
FIRST = 6  # of the draws: those that streams of before had


def order(seed: int, epoch: int, count: int) -> NDArray[np.int64]:
    """The samples 0..count-1 in the order in which this epoch visits them, int64 [count]."""
    return _order_generator(seed, epoch).permutation(count)


def windowed_order(seed: int, epoch: int, shard_counts: Sequence[int], window: int) -> NDArray[np.int64]:
    """The order of an epoch when at most `window` shards are to be read at a time, int64 [sum(shard_counts)].

    The shards are permuted and taken `window` at a time; the samples of such a group are shuffled among themselves.
    A disk or a network file system then works through a few files after another instead of through all at once.
    0: no limit, which is `order`. Samples are numbered shard by shard, as `ShardSet` does.
    """
    counts = np.asarray(shard_counts, dtype=np.int64)
    if not window:
        return order(seed, epoch, int(counts.sum()))
    generator = _order_generator(seed, epoch)
    shards = generator.permutation(len(counts))
    ends = np.cumsum(counts)
    groups = []
    for first in range(0, len(shards), window):
        samples = [np.arange(ends[shard] - counts[shard], ends[shard]) for shard in shards[first : first + window]]
        groups.append(generator.permutation(np.concatenate(samples)))
    return np.concatenate(groups)


def draw(seed: int, epoch: int, samples: NDArray[np.int64]) -> Draws:
    """The random numbers for `samples` (int64 [B]) in this epoch."""
    return Draws.of(_uniform(seed, epoch, samples, _DRAWS, NUMBERS))


def draw_aimed(seed: int, epoch: int, positions: NDArray[np.int64]) -> tuple[Draws, NDArray[np.float64]]:
    """Random numbers of crops that are to show a class: they belong to positions (int64 [B]) of the epoch, since a
    sample may come twice in it. And of the point that each is to hold, float64 [B, 3], uniform in [0, 1)."""
    numbers = _uniform(seed, epoch, positions, _AIMED, 3 + NUMBERS)
    return Draws.of(numbers[:, 3:]), numbers[:, :3]


def draw_places(seed: int, epoch: int, samples: NDArray[np.int64], tries: int) -> NDArray[np.float64]:
    """Further places for the samples' crops, float64 [B, tries, 2]: (top, left), uniform in [0, 1)."""
    return _uniform(seed, epoch, samples, _PLACES, 2 * tries).reshape(len(samples), tries, 2)


def _uniform(seed: int, epoch: int, owners: NDArray[np.int64], use: int, count: int) -> NDArray[np.float64]:
    """`count` numbers for each owner, float64 [B, count]."""
    numbers = np.empty((len(owners), count))
    for row, owner in zip(numbers, owners, strict=True):
        # Words 1 and 2 of the counter are the owner's own; word 0 counts its numbers.
        philox = np.random.Philox(key=_key(seed, epoch), counter=[0, int(owner), 0, use])
        row[:] = np.random.Generator(philox).random(count)
    return numbers


def steps_per_epoch(count: int, global_batch: int) -> int:
    """Whole global batches in an epoch; the tail of the permutation (other samples each epoch) is left out."""
    return count // global_batch


def positions(first: int, rank: int, batch: int) -> NDArray[np.int64]:
    """The places of the order that `rank` takes of the global batch that starts at place `first`, int64 [batch].

    A world of R ranks takes [first, first + R*batch), and rank r the r-th `batch` of them: put back together, the
    ranks' batches are the order itself, whatever R is.
    """
    return first + rank * batch + np.arange(batch)


def balanced_order(
    seed: int, epoch: int, count: int, pools: Sequence[tuple[int, NDArray[np.int64]]]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The order of an epoch in which some places are kept for chosen samples: (samples, pools), int64 [count] each.

    pools: (n, candidates): n places go to samples of these, as evenly as n allows. The second array says which pool a
    place belongs to, -1 for none. The other places go on through one long order of all samples, from epoch to epoch:
    with m of them an epoch, every sample comes at least once in `ceil(count / m)` epochs.
    """
    kept = sum(places for places, _ in pools)
    free = count - kept
    epochs = -(-count // free)  # that a long order lasts
    long = _order_generator(seed, epoch // epochs, _LONG_ORDER).permutation(count)
    chosen = [long[(epoch % epochs * free + np.arange(free)) % count]]
    whose = [np.full(free, -1)]
    generator = _order_generator(seed, epoch, _POOL)
    for number, (places, candidates) in enumerate(pools):
        rounds = [generator.permutation(candidates) for _ in range(-(-places // len(candidates)))]
        chosen.append(np.concatenate([*rounds, np.empty(0, np.int64)])[:places])
        whose.append(np.full(places, number))
    mixed = _order_generator(seed, epoch).permutation(count)
    return np.concatenate(chosen).astype(np.int64)[mixed], np.concatenate(whose).astype(np.int64)[mixed]


def visits(seed: int, epoch: int, folders: Sequence[tuple[int, int]]) -> NDArray[np.int64]:
    """The samples that an epoch visits where folders have weights, ascending, int64 [sum of visits].

    folders: of each (samples, visits an epoch). A folder's visits go on through one permutation of its samples after
    the other, from epoch to epoch: no sample is ever more than one visit ahead of another of its folder.
    """
    found, begin = [], 0
    for number, (samples, count) in enumerate(folders):
        first, chosen = epoch * count, []
        for turn in range(first // samples, -(-(first + count) // samples)):
            generator = _order_generator(seed, turn % 2**64, _FOLDER, number)
            low, high = (min(max(place - turn * samples, 0), samples) for place in (first, first + count))
            # All of a permutation, sorted, need not be drawn.
            whole = high - low == samples
            chosen.append(np.arange(samples) if whole else generator.permutation(samples)[low:high])
        found.append(begin + np.sort(np.concatenate(chosen)))
        begin += samples
    return np.concatenate(found).astype(np.int64)


def _order_generator(seed: int, epoch: int, use: int = _ORDER, folder: int = 0) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=_key(seed, epoch), counter=[0, folder, 0, use]))


def _key(seed: int, epoch: int) -> NDArray[np.uint64]:
    # Philox takes a list's large numbers through float64, where neighbors become one.
    return np.array([seed, epoch], dtype=np.uint64)
