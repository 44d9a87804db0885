"""Validation batches of equal image size, against a plain loop over the samples."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline import equal_sizes


def by_a_loop(sizes_hw: NDArray[np.int64], batch_size: int) -> list[list[int]]:
    groups: dict[tuple[int, int], list[int]] = {}
    for sample, (height, width) in enumerate(sizes_hw.tolist()):
        groups.setdefault((height, width), []).append(sample)
    return sorted(group[i : i + batch_size] for group in groups.values() for i in range(0, len(group), batch_size))


@pytest.mark.parametrize("batch_size", [1, 3, 8, 100])
@pytest.mark.parametrize("count", [1, 2, 50, 1000])
def test_as_a_loop_would(count: int, batch_size: int) -> None:
    random = np.random.default_rng(count * batch_size)
    for kinds in (1, 2, 7, 40):
        sizes = random.choice([1, 2, 5, 480, 640, 2**20], (kinds, 2)).astype(np.int64)[random.integers(0, kinds, count)]
        expected = by_a_loop(sizes, batch_size)
        found = equal_sizes.batches(sizes, batch_size)
        assert [batch.tolist() for batch in found] == expected and len(found) == len(expected)
        dealt = [[batch.tolist() for batch in found.of_rank(rank, 3)] for rank in range(3)]
        assert dealt == [expected[rank::3] for rank in range(3)]


def test_no_samples() -> None:
    assert list(equal_sizes.batches(np.zeros((0, 2), np.int64), 4)) == []


def test_the_order_of_a_rank_is_its_batches_one_after_the_other() -> None:
    sizes = np.random.default_rng(0).integers(1, 4, (50, 2))
    for ranks in (1, 2, 3, 60):
        for rank in range(min(ranks, 4)):
            found = equal_sizes.batches(sizes, 3).of_rank(rank, ranks)
            assert found.order(0).tolist() == [int(sample) for batch in found for sample in batch]
            assert not len(found.order(1))
