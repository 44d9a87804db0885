"""segrail's own loader."""

from __future__ import annotations

from collections.abc import Iterator

from bench.setting import Setting
from ingest.shards.reader import ShardSet
from pipeline.loader import TrainLoader


def ours(setting: Setting) -> Iterator[int]:
    """uint8 batches, as the trainer gets them."""
    loader = TrainLoader(
        ShardSet(setting.folder, setting.split),
        setting.augment,
        setting.batch,
        device="cuda" if setting.device == "gpu" else "cpu",
        threads=setting.threads,
        prefetch=setting.prefetch,
    )
    for batch in loader:
        yield len(batch.keys)
