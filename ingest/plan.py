"""Which sample goes into which shard, decided before anything is decoded."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass

from ingest.errors import UserError
from ingest.keys import make_keys
from ingest.sources.raw import Pair, RawDataset


@dataclass(frozen=True)
class Planned:
    """One sample and where it goes."""

    key: str
    pair: Pair


@dataclass(frozen=True)
class PlannedShard:
    """The samples of one shard, decided from names and file sizes alone: no worker count can move a boundary."""

    name: str
    split: str
    samples: list[Planned]


def plan(raw: RawDataset, shard_size: int, seed: int) -> list[PlannedShard]:
    """Shuffles each split once and cuts it into shards of about `shard_size` bytes of source files.

    The order is that of a hash of (seed, key), so that it depends on nothing but the names, in archives or out of them.
    """
    for split, pairs in raw.splits.items():
        if not pairs:
            raise UserError(f"split {split!r} of {raw.name} is empty: check its files, or leave it out with --split")
    samples = [(split, pair) for split, pairs in raw.splits.items() for pair in pairs]
    keys = make_keys([(split, pair.image.name, pair.stem) for split, pair in samples])
    shards = []
    for split in raw.splits:
        mine = [Planned(key, pair) for key, (of, pair) in zip(keys, samples, strict=True) if of == split]
        mine.sort(key=lambda sample: hashlib.sha256(f"{seed}/{sample.key}".encode()).digest())
        total = sum(sample.pair.bytes for sample in mine)
        count = max(1, math.ceil(total / shard_size))
        cut: list[list[Planned]] = [[] for _ in range(count)]
        before = 0
        for sample in mine:  # equal shares of the bytes, so that no shard is a sliver
            size = sample.pair.bytes
            cut[min(count - 1, (before + size // 2) * count // total)].append(sample)
            before += size
        cut = [part for part in cut if part]
        shards += [PlannedShard(f"{split}-{number:06d}", split, part) for number, part in enumerate(cut)]
    return shards
