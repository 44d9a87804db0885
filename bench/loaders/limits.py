"""What no loader can be faster than: reading the bytes, and decoding them."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from nvidia.dali import fn, types

from bench.data.setting import Setting
from bench.loaders import executor
from ingest.shards.reader import ShardSet
from pipeline import plan


def read(setting: Setting) -> Iterator[int]:
    """Every byte of image and label fetched from the tars and copied once, in an epoch's random order.

    The first time round this is the disk's speed (or the page cache's, where the files were read lately), later the
    memory's.
    """
    shards = ShardSet(setting.folder, setting.split)

    def copy(sample: int) -> int:
        return shards.image(sample).copy().size + shards.label(sample).copy().size

    with ThreadPoolExecutor(setting.threads) as pool:
        for samples in _batches(len(shards), setting.batch):
            list(pool.map(copy, samples))
            yield len(samples)


def decode(setting: Setting) -> Iterator[int]:
    """DALI decodes image and label, whole, and nothing else."""
    shards = ShardSet(setting.folder, setting.split)
    batches = _batches(len(shards), setting.batch)
    files = shards.manifest.channels == 3
    # DALI does not copy its inputs (`no_copy`): those under way are to live.
    kept: deque[tuple[list[Any], list[Any]]] = deque(maxlen=setting.prefetch + 4)

    def source() -> tuple[list[Any], list[Any]]:
        samples = next(batches)
        kept.append(([shards.image(sample) for sample in samples], [shards.label(sample) for sample in samples]))
        return kept[-1]

    pipe = executor.pipeline(setting)
    device = "mixed" if setting.device == "gpu" else "cpu"
    with pipe:
        images, labels = fn.external_source(
            source=source, num_outputs=2, batch=True, no_copy=True, dtype=types.UINT8, ndim=[1 if files else 3, 1]
        )
        if files:
            images = fn.decoders.image(
                images,
                device=device,
                output_type=types.RGB,
                adjust_orientation=False,
                jpeg_fancy_upsampling=True,  # as segrail's own graph decodes
            )
        labels = fn.decoders.image(labels, device=device, output_type=types.GRAY, adjust_orientation=False)
        pipe.set_outputs(images, labels)
    pipe.build()
    while True:
        pipe.run()
        yield setting.batch


def _batches(count: int, batch: int) -> Iterator[list[int]]:
    """Whole batches of epochs in random orders."""
    for epoch in itertools.count():
        order = np.asarray(plan.order(0, epoch, count))
        for first in range(0, count - batch + 1, batch):
            yield order[first : first + batch].tolist()
