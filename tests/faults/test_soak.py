"""The same thing many times over: memory, descriptors and threads stay flat."""

from __future__ import annotations

import gc
import itertools
import os
import threading
from collections.abc import Callable
from pathlib import Path

import torch

from ingest.shards.reader import ShardSet
from pipeline.augment import Augment
from tests.faults.ledger import Tally
from tests.loaders import train_loader
from train.checkpoints import checkpoint

Start = Callable[[str, str], Tally]
Many = Callable[[int, int], int]
AUGMENT = Augment(crop=(32, 32), base_size=48)
ROOM = 24 << 20  # bytes that the allocator may keep


def held() -> tuple[int, int, int]:
    """Resident bytes, open descriptors and threads of this process."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE"), len(os.listdir("/proc/self/fd")), threading.active_count()


def flat(work: Callable[[int], object], warm: int, count: int, tally: Tally) -> None:
    """work(number), first some times to fill pools and caches, then `count` times, which are one trial together."""
    for number in range(warm):
        work(number)
    before = held()
    for number in range(count):
        work(warm + number)
    after = held()
    grown = after[0] - before[0]
    good = grown < ROOM and after[1] <= before[1] + 2 and after[2] <= before[2] + 1
    tally.check(good, f"{count} times: {grown >> 20} MiB more, descriptors and threads {before[1:]} -> {after[1:]}")


def test_loader_steps(toy: Path, tally: Start, many: Many) -> None:
    count = many(200, 3000)
    steps = iter(train_loader(ShardSet(toy, "train"), AUGMENT, 4, threads=2))
    flat(lambda _: next(steps), 100, count, tally("Soak", f"{count:,} loader steps"))


def test_loaders_made_and_dropped(toy: Path, tally: Start, many: Many) -> None:
    count = many(12, 100)

    def work(_: int) -> None:
        list(itertools.islice(train_loader(ShardSet(toy, "train"), AUGMENT, 4, threads=2), 2))

    flat(work, 8, count, tally("Soak", f"{count} loaders made and dropped"))


def test_checkpoints(tmp_path: Path, tally: Start, many: Many) -> None:
    state = {"model": {str(number): torch.randn(64, 64) for number in range(60)}, "step": 3}

    count = many(20, 200)

    def work(_: int) -> None:
        checkpoint.save(tmp_path / "last.pt", state)
        checkpoint.load(tmp_path / "last.pt")

    flat(work, 10, count, tally("Soak", f"{count} checkpoints written and read"))
    assert [path.name for path in tmp_path.iterdir()] == ["last.pt"]
