"""segrail's own loader."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from bench.data.setting import Setting
from ingest.shards.reader import ShardSet
from pipeline.config import Stream
from pipeline.feeding import Feeding
from pipeline.loader import TrainLoader


def ours(setting: Setting) -> Iterator[int]:
    """uint8 batches, as the trainer gets them."""
    yield from _sizes(setting, Feeding(_net(setting), setting.threads, setting.prefetch))


def ours_by_cpu(setting: Setting) -> Iterator[int]:
    """The same batches made by the CPU and copied to the GPU, where there is one."""
    gpu = _net(setting) if setting.device == "gpu" else None
    yield from _sizes(setting, Feeding(threads=setting.threads, prefetch=setting.prefetch, copy_to=gpu))


def _sizes(setting: Setting, feeding: Feeding) -> Iterator[int]:
    stream = Stream(batch_size=setting.batch, augment=setting.augment)
    for batch in TrainLoader(ShardSet(setting.folder, setting.split), stream, feeding):
        yield len(batch.keys)


def _net(setting: Setting) -> torch.device:
    return torch.device("cuda", torch.cuda.current_device()) if setting.device == "gpu" else torch.device("cpu")
