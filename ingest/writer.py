"""A raw dataset in, a shard folder out: planned before anything is decoded, written in order, whole or not at all."""

from __future__ import annotations

import hashlib
import math
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ingest import manifest
from ingest.convert import Converted, Rules, convert_all
from ingest.errors import UserError
from ingest.keys import make_keys
from ingest.manifest import IGNORE, Manifest, Sample, Shard, ShardRecord, Split
from ingest.raw import Pair, RawDataset
from ingest.shard import BLOCK, TarWriter


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

    The order is that of a hash of (seed, name), so that it depends on nothing but the names.
    """
    for split, pairs in raw.splits.items():
        if not pairs:
            raise UserError(f"split {split!r} of {raw.name} is empty: check its files, or leave it out with --split")
    samples = [(split, pair) for split, pairs in raw.splits.items() for pair in pairs]
    keys = make_keys([(split, pair.image.name) for split, pair in samples])
    shards = []
    for split in raw.splits:
        mine = [Planned(key, pair) for key, (of, pair) in zip(keys, samples, strict=True) if of == split]
        mine.sort(key=lambda sample: hashlib.sha256(f"{seed}/{sample.pair.image.name}".encode()).digest())
        total = sum(_size(sample.pair) for sample in mine)
        count = max(1, math.ceil(total / shard_size))
        cut: list[list[Planned]] = [[] for _ in range(count)]
        before = 0
        for sample in mine:  # equal shares of the bytes, so that no shard is a sliver
            size = _size(sample.pair)
            cut[min(count - 1, (before + size // 2) * count // total)].append(sample)
            before += size
        cut = [part for part in cut if part]
        shards += [PlannedShard(f"{split}-{number:06d}", split, part) for number, part in enumerate(cut)]
    return shards


def write(
    raw: RawDataset, out: Path, *, shard_size: int, seed: int, workers: int, command: str, options: dict[str, Any]
) -> Manifest:
    """Writes shards and `dataset.json` into `out`, by way of `<out>.partial`. Returns the manifest.

    Raises UserError when `out` is not empty or a source file is at fault, OSError when the disk is; either way nothing
    is left behind.
    """
    partial = out.with_name(out.name + ".partial")
    refuse_existing(out)
    if partial.exists():
        raise UserError(
            f"{partial} exists: another ingest is at work there, or one was killed; delete it, then run again"
        )
    shards = plan(raw, shard_size, seed)
    try:
        partial.mkdir(parents=True)
        records = _write_shards(shards, raw, partial, workers)
        facts = summarise(raw, shards, records, command, options)
        manifest.save(facts, partial)
        if out.exists():
            out.rmdir()  # empty, checked above
        os.replace(partial, out)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return facts


def refuse_existing(out: Path) -> None:
    """UserError when `out` is anything but missing or an empty folder."""
    if out.is_dir() and not any(out.iterdir()):
        return
    if out.exists():
        raise UserError(f"{out} exists: give another --out, or delete it first")


def _write_shards(shards: list[PlannedShard], raw: RawDataset, folder: Path, workers: int) -> list[ShardRecord]:
    pairs = [sample.pair for shard in shards for sample in shard.samples]
    rules = Rules(raw.labels, tuple(raw.classes))
    converted = convert_all(pairs, rules, min(workers, len(pairs)))
    records = []
    with tqdm(total=len(pairs), desc=raw.name, unit="img", disable=None) as progress:
        for shard in shards:
            tar = TarWriter(folder, shard.name)
            done = []
            try:
                for sample in shard.samples:
                    result = next(converted)
                    tar.add(sample.key, _members(result))
                    done.append(_light(result))
                    progress.update()
                digest = tar.close()
            except BaseException:
                tar.abort()
                raise
            record = _record(shard, done, tar.size, digest, len(raw.classes))
            manifest.save_shard(record, folder)
            records.append(record)
    return records


def _members(sample: Converted) -> list[tuple[str, bytes]]:
    image = [(sample.image_ext, sample.image)]
    return image if sample.label is None else [*image, ("seg.png", sample.label)]


def _light(sample: Converted) -> Converted:
    """The same without the files: what is kept in memory until the shard is closed."""
    return Converted(**{**vars(sample), "image": b"", "label": None})


def _record(shard: PlannedShard, done: list[Converted], size: int, digest: str, num_classes: int) -> ShardRecord:
    ids = [sum(column) for column in zip(*(sample.id_pixels for sample in done), strict=True)]
    return ShardRecord(
        name=shard.name,
        bytes=size,
        sha256=digest,
        class_pixels=ids[:num_classes],
        ignored_pixels=ids[IGNORE],
        channel_sum=[sum(column) for column in zip(*(sample.channel_sum for sample in done), strict=True)],
        channel_square_sum=[
            sum(column) for column in zip(*(sample.channel_square_sum for sample in done), strict=True)
        ],
        samples=[
            Sample(
                key=planned.key,
                image=planned.pair.image.name,
                label=planned.pair.label.name if planned.pair.label else None,
                image_ext=result.image_ext,
                height=result.height,
                width=result.width,
            )
            for planned, result in zip(shard.samples, done, strict=True)
        ],
    )


def summarise(
    raw: RawDataset,
    shards: Sequence[PlannedShard],
    records: Sequence[ShardRecord],
    command: str,
    options: dict[str, Any],
) -> Manifest:
    """`dataset.json` from the shards' records."""
    by_split: dict[str, list[ShardRecord]] = {split: [] for split in raw.splits}
    for shard, record in zip(shards, records, strict=True):
        by_split[shard.split].append(record)
    mean, std = _mean_std(by_split[training_split(raw.splits)])
    return Manifest(
        name=raw.name,
        classes=list(raw.classes),
        palette=[list(color) for color in raw.palette],
        mean=mean,
        std=std,
        splits={split: _split(raw, split, mine) for split, mine in by_split.items()},
        command=command,
        options=options,
    )


def training_split(splits: dict[str, list[Pair]]) -> str:
    """The split whose images give mean and std: `train`, else the first `train...`, else the first."""
    return "train" if "train" in splits else next((s for s in splits if s.startswith("train")), next(iter(splits)))


def _split(raw: RawDataset, name: str, records: list[ShardRecord]) -> Split:
    sizes = [(sample.height, sample.width) for record in records for sample in record.samples]
    axes = [sorted(axis) for axis in zip(*sizes, strict=True)]
    return Split(
        samples=len(sizes),
        labeled=raw.splits[name][0].label is not None,
        shards=[Shard(record.name, len(record.samples), record.bytes, record.sha256) for record in records],
        class_pixels=[sum(column) for column in zip(*(record.class_pixels for record in records), strict=True)],
        ignored_pixels=sum(record.ignored_pixels for record in records),
        image_size={
            "min": [axis[0] for axis in axes],
            "median": [axis[(len(axis) - 1) // 2] for axis in axes],
            "max": [axis[-1] for axis in axes],
        },
        skipped=list(raw.skipped.get(name, [])),
    )


def _mean_std(records: list[ShardRecord]) -> tuple[list[float], list[float]]:
    """Per channel, 0..1, from integer sums: exact but for the last division."""
    pixels = sum(sample.height * sample.width for record in records for sample in record.samples)
    mean, std = [], []
    for total, squares in zip(
        (sum(column) for column in zip(*(record.channel_sum for record in records), strict=True)),
        (sum(column) for column in zip(*(record.channel_square_sum for record in records), strict=True)),
        strict=True,
    ):
        mean.append(total / pixels / 255)
        std.append(math.sqrt(pixels * squares - total * total) / pixels / 255)
    return mean, std


def _size(pair: Pair) -> int:
    """Bytes the pair takes in a tar, as far as the source tells."""
    return sum(source.size + 2 * BLOCK for source in (pair.image, pair.label) if source)
