"""One row of `bench.staging`, in a process of its own: an epoch of batches from a URL, with an empty cache."""

from __future__ import annotations

import contextlib
import json
import sys
import tempfile
import time
import zlib
from itertools import islice
from pathlib import Path
from typing import Any

from bench.measuring.fresh import Numbers
from ingest.shards.reader import ShardSet
from ingest.shards.remote import urls
from ingest.shards.remote.cache import Cache
from pipeline.augment import Augment
from pipeline.config import Stream
from pipeline.feeding import Feeding
from pipeline.loader import TrainLoader


def measure(order: dict[str, Any]) -> Numbers:
    """Seconds, megabytes, and a sum of all pixels by which streams are compared."""
    with tempfile.TemporaryDirectory(prefix="bench-staging-") as name:
        cache = Cache(Path(name), order["cache_bytes"])
        place, begun = order["url"], time.perf_counter()
        if order["whole"]:
            place = str(urls.stage(place, cache.folder, cache.max_bytes))
        shards = ShardSet(place, "train", cache)
        stream = Stream(batch_size=8, shuffle_window=order["window"], augment=Augment(crop=(128, 128), base_size=160))
        loader = TrainLoader(shards, stream, Feeding(threads=1))
        first, waited, seen, most = 0.0, 0.0, 0, 0
        with contextlib.closing(iter(loader)) as batches:
            asked = begun
            for number, batch in enumerate(islice(batches, loader.steps_per_epoch)):
                got = time.perf_counter()
                first = first or got - begun
                waited += (got - asked) * (number > 0)
                assert batch.labels is not None
                seen = zlib.crc32(batch.labels.numpy().tobytes(), zlib.crc32(batch.images.numpy().tobytes(), seen))
                most = max(most, cache.held())
                time.sleep(order["step_seconds"])
                asked = time.perf_counter()
        taken = time.perf_counter() - begun
        fetched = sum(part.traffic.fetched_bytes for part in shards.staging)
    return {
        "first_s": first,
        "waited_s": waited,
        "epoch_s": taken,
        "fetched_mb": fetched / 1e6,
        "cache_mb": most / 1e6,
        "pixels": float(seen),
    }


def _main() -> None:
    print(json.dumps(measure(json.load(sys.stdin))), flush=True)


if __name__ == "__main__":
    _main()
