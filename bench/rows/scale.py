"""One row of `bench.scale`, in a process of its own: opens a split, orders an epoch, plans some steps."""

from __future__ import annotations

import itertools
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from bench.data.records import SPLIT
from bench.measuring.fresh import Numbers
from ingest.shards.reader import ShardSet
from pipeline import plan
from pipeline.config import Stream
from pipeline.feeding import Feeding
from pipeline.loader import EvalLoader, TrainLoader

_BATCH, _STEPS = 8, 300


def measure(folder: str) -> Numbers:
    """Milliseconds and megabytes. Memory is what the process has for itself: all ranks share the map's pages."""
    before, start = _private_mb(), time.perf_counter()
    shards = ShardSet(folder, SPLIT)
    opened, after_open = time.perf_counter() - start, _private_mb()
    start = time.perf_counter()
    plan.order(0, 0, len(shards))
    ordered = time.perf_counter() - start
    loader = TrainLoader(shards, Stream(batch_size=_BATCH), Feeding(threads=1))
    # A run that goes on in the middle of an epoch.
    loader.load_state_dict(loader.state_dict() | {"epoch": 3, "position": len(shards) // 2})
    start = time.perf_counter()
    requests = loader._requests()  # planned, not read: the tars are empty
    next(requests)
    resumed = time.perf_counter() - start
    start = time.process_time()
    EvalLoader(shards, _BATCH, Feeding(threads=1))
    validating = time.process_time() - start
    start = time.process_time()
    steps = sum(1 for _ in itertools.islice(requests, min(_STEPS, len(shards) // _BATCH // 4)))
    took = time.process_time() - start
    return {
        "open_ms": 1000 * opened,
        "open_mb": after_open - before,
        "order_ms": 1000 * ordered,
        "resume_ms": 1000 * resumed,
        "eval_ms": 1000 * validating,
        "step_ms": 1000 * took / steps,
        "mb": _private_mb() - before,
        "open_files": float(len(os.listdir("/proc/self/fd"))),
    }


def _private_mb() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("RssAnon"))


def _main() -> None:
    order: dict[str, Any] = json.load(sys.stdin)
    print(json.dumps(measure(order["folder"])), flush=True)


if __name__ == "__main__":
    _main()
