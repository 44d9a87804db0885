"""What bench.loader measures on: a shard folder that is given, or scenes that it draws."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np

from bench.data import scenes
from bench.data.setting import Setting
from ingest.shards.reader import ShardSet
from ingest.shards.remote import urls
from pipeline.augment import Augment


@dataclass(frozen=True)
class Case:
    """One dataset to measure on."""

    title: str
    folder: str
    augment: Augment
    real: str = ""
    """What real files of the kind weigh."""


@contextlib.contextmanager
def cases(
    folder: str | None, sizes: Sequence[str], keep: Path | None, augment: Augment | None
) -> Iterator[Iterator[Case]]:
    """The folder given, or scenes, each size drawn in its turn. augment: None for the default, or the size's own."""
    with tempfile.TemporaryDirectory(prefix="bench-") as temporary:
        if folder is not None:
            path = str(urls.stage(folder)) if urls.is_url(folder) else folder
            yield iter([Case(folder, path, augment or Augment())])
            return

        def drawn() -> Iterator[Case]:
            for name in sizes:
                size = scenes.SIZES[name]
                click.echo(f"drawing scenes: {size.title}", err=True)
                path = scenes.make(name, keep or Path(temporary))
                yield Case(f"street scenes, {size.title}", str(path), augment or size.augment, size.real)

        yield drawn()


def how(setting: Setting) -> str:
    """Crop, batch, threads and device, as titles of tables and charts say them."""
    height, width = setting.augment.crop
    threads = "1 thread" if setting.threads == 1 else f"{setting.threads} threads"
    return f"crop {width}x{height}, batch {setting.batch}, {threads}, {setting.device}"


def describe(case: Case, shards: ShardSet, setting: Setting, repeats: str) -> str:
    """The lines above a table: what was measured, on what. repeats: such as "3 x 2 s"."""
    images, labels = shards.file_sizes.mean(axis=0) / 1000
    height, width = np.median(shards.sizes_hw, axis=0).astype(int)
    real = f" ({case.real})" if case.real else ""
    return (
        f"{case.title}: {len(shards)} images of {width}x{height}, {images:.0f} kB each, labels {labels:.0f} kB{real}\n"
        f"{how(setting)}; medians of {repeats}"
    )
