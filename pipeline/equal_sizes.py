"""The samples of a split in batches of equal image size: columns, so that ten million samples take a second or two."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Batches:
    """M batches; batch i is samples[begins[i]:ends[i]]."""

    samples: NDArray[np.int64]
    """[N]: the samples, those of one size together."""
    begins: NDArray[np.int64]
    """[M]."""
    ends: NDArray[np.int64]
    """[M]."""

    def __len__(self) -> int:
        return len(self.begins)

    def __iter__(self) -> Iterator[NDArray[np.int64]]:
        for begin, end in zip(self.begins, self.ends, strict=True):
            yield self.samples[begin:end]

    def order(self, epoch: int) -> NDArray[np.int64]:
        """The batches' samples one after the other; none after epoch 0, for there is but one."""
        if epoch:
            return np.empty(0, np.int64)
        counts = self.ends - self.begins
        return self.samples[np.repeat(self.begins, counts) + _places(counts)]

    def of_rank(self, rank: int, ranks: int) -> Batches:
        """Every `ranks`-th batch from number `rank` on."""
        return Batches(self.samples, self.begins[rank::ranks], self.ends[rank::ranks])


def batches(sizes_hw: NDArray[np.int64], batch_size: int) -> Batches:
    """All samples in batches of one size each; inside a size, and among the batches, in the samples' order.

    sizes_hw: int64 [N, 2], pixels, below 2**31. Of each size the last batch may be smaller than `batch_size`.
    """
    count = len(sizes_hw)
    size = sizes_hw[:, 0] << 32 | sizes_hw[:, 1]
    samples = np.argsort(size, kind="stable")
    size = size[samples]
    first = np.flatnonzero(np.concatenate([np.ones(min(1, count), bool), size[1:] != size[:-1]]))
    last = np.append(first[1:], count)[: len(first)]
    counts = -(-(last - first) // batch_size)  # batches of each size
    begins = np.repeat(first, counts) + _places(counts) * batch_size
    ends = np.minimum(begins + batch_size, np.repeat(last, counts))
    turn = np.argsort(samples[begins], kind="stable")  # a batch's first sample is its least
    return Batches(samples, begins[turn], ends[turn])


def _places(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """0, 1, ... anew for each group, of groups of these sizes: [2, 3] -> [0, 1, 0, 1, 2]."""
    return np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
