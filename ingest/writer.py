"""A raw dataset in, a shard folder out: planned before anything is decoded, written in order, whole or not at all."""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
import shutil
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ingest import tiling
from ingest.convert import Converted, Rules, convert_all
from ingest.errors import UserError
from ingest.keys import make_keys
from ingest.pixels.images import Format
from ingest.resume import claim, fingerprint, finished
from ingest.shards import manifest
from ingest.shards.manifest import IGNORE, Manifest, Sample, Shard, ShardRecord, Skipped, Split
from ingest.shards.tar import TarWriter
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


def write(
    raw: RawDataset,
    out: Path,
    *,
    shard_size: int,
    seed: int,
    workers: int,
    command: str,
    options: dict[str, Any],
    images: Format | None = None,
    skip_bad: bool = False,
    resume: bool = False,
) -> Manifest:
    """Writes shards and `dataset.json` into `out`, by way of `<out>.partial`. Returns the manifest.

    Raises UserError when `out` is not empty or a source file is at fault, OSError when the disk is. Then nothing
    is left but whole shards in `<out>.partial`, from which `resume` goes on.
    """
    if resume and (out / manifest.FILE).exists():
        facts = manifest.load(out)
        if (facts.command, facts.options) == (command, options):
            return facts
    refuse_existing(out)
    partial = out.with_name(out.name + ".partial")
    shards = plan(raw, shard_size, seed)
    rules = Rules(raw.labels, tuple(raw.classes), images or Format(), skip_bad, str(partial))
    # without skip_bad: who stumbles over a broken file late may go on with it
    deciding = {key: value for key, value in options.items() if key != "skip_bad"}
    digest = fingerprint(raw.name, raw.classes, deciding, [_identity(shard) for shard in shards])
    with claim(partial, digest, resume):
        try:
            if any(pair.window for pairs in raw.splits.values() for pair in pairs):
                tiling.prepare((pair for pairs in raw.splits.values() for pair in pairs), partial, raw, workers)
            records = _write_shards(shards, raw.name, rules, partial, workers)
            facts = summarise(raw, shards, records, command, options)
            tiling.remove(partial)
            manifest.save(facts, partial)
        except BaseException as error:
            kept = sum(finished(partial, shard.name) is not None for shard in shards)
            if not kept:
                shutil.rmtree(partial, ignore_errors=True)
            else:
                _tell(
                    error,
                    f"{kept} of {len(shards)} shards are done: go on with --resume",
                )
            raise
    if out.exists():
        out.rmdir()  # empty, checked above
    os.replace(partial, out)
    return facts


def _identity(shard: PlannedShard) -> list[Any]:
    """What must be the same for a finished shard to be the one that is planned."""
    samples = [
        [sample.key, sample.pair.window, *((s.name, s.size) for s in (sample.pair.image, sample.pair.label) if s)]
        for sample in shard.samples
    ]
    return [shard.name, samples]


def refuse_existing(out: Path) -> None:
    """UserError when `out` is anything but missing or an empty folder."""
    if out.is_dir() and not any(out.iterdir()):
        return
    if out.exists():
        raise UserError(f"{out} exists: give another --out, or delete it first")


def _tell(error: BaseException, more: str) -> None:
    """Adds to the one line that the user will read."""
    if isinstance(error, UserError):
        error.args = (f"{error}. {more} (with --skip-bad broken samples are left out)",)
    elif isinstance(error, OSError) and error.strerror:
        error.strerror = f"{error.strerror}; {more}"


def _write_shards(shards: list[PlannedShard], name: str, rules: Rules, folder: Path, workers: int) -> list[ShardRecord]:
    done = [finished(folder, shard.name) for shard in shards]
    pairs = [s.pair for shard, record in zip(shards, done, strict=True) if not record for s in shard.samples]
    total = sum(len(shard.samples) for shard in shards)
    converted = convert_all(pairs, rules, max(1, min(workers, len(pairs))))
    records = []
    with (
        contextlib.closing(converted),
        tqdm(total=total, initial=total - len(pairs), desc=name, unit="img", disable=None) as progress,
    ):
        for shard, record in zip(shards, done, strict=True):
            records.append(record or _write_shard(shard, folder, converted, len(rules.classes), progress))
    return records


def _write_shard(
    shard: PlannedShard,
    folder: Path,
    converted: Iterator[Converted | Skipped],
    num_classes: int,
    progress: tqdm,
) -> ShardRecord:
    tar = TarWriter(folder, shard.name)
    done: list[tuple[Planned, Converted, list[int]]] = []
    skipped: list[Skipped] = []
    try:
        for sample in shard.samples:
            result = next(converted)
            if isinstance(result, Skipped):
                skipped.append(result)
            else:
                members = _members(sample.pair, result)
                tar.add(sample.key, members)
                done.append((sample, _light(result), [zlib.crc32(data) for _, data in members]))
            progress.update()
        if not done:
            raise UserError(f"every sample of {shard.name} is broken, the first: {skipped[0].reason}")
        digest = tar.close()
    except BaseException:
        tar.abort()
        raise
    record = _record(shard.name, done, skipped, tar.size, digest, num_classes)
    manifest.save_shard(record, folder)
    return record


def _members(pair: Pair, sample: Converted) -> list[tuple[str, bytes]]:
    image = [(sample.image_ext, sample.image or pair.image.read())]
    return image if sample.label is None else [*image, ("seg.png", sample.label)]


def _light(sample: Converted) -> Converted:
    """The same without the files: what is kept in memory until the shard is closed."""
    return Converted(**{**vars(sample), "image": b"", "label": None})


def _record(
    name: str,
    done: list[tuple[Planned, Converted, list[int]]],
    skipped: list[Skipped],
    size: int,
    digest: str,
    num_classes: int,
) -> ShardRecord:
    ids = _add(sample.id_pixels for _, sample, _ in done)
    return ShardRecord(
        name=name,
        bytes=size,
        sha256=digest,
        class_pixels=ids[:num_classes],
        ignored_pixels=ids[IGNORE],
        channel_sum=_add(sample.channel_sum for _, sample, _ in done),
        channel_square_sum=_add(sample.channel_square_sum for _, sample, _ in done),
        samples=[
            Sample(
                key=planned.key,
                image=planned.pair.image.name,
                label=planned.pair.label.name if planned.pair.label else None,
                image_ext=result.image_ext,
                height=result.height,
                width=result.width,
                offset=list(planned.pair.window[:2]) if planned.pair.window else None,
                image_crc32=crcs[0],
                label_crc32=crcs[1] if len(crcs) > 1 else None,
            )
            for planned, result, crcs in done
        ],
        skipped=skipped,
    )


def _add(rows: Iterable[list[int]]) -> list[int]:
    """Column sums, in Python's exact integers."""
    return [sum(column) for column in zip(*rows, strict=True)]


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
        channels=len(mean),
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
        class_pixels=_add(record.class_pixels for record in records),
        ignored_pixels=sum(record.ignored_pixels for record in records),
        image_size={
            "min": [axis[0] for axis in axes],
            "median": [axis[(len(axis) - 1) // 2] for axis in axes],
            "max": [axis[-1] for axis in axes],
        },
        skipped=[*raw.skipped.get(name, []), *(one for record in records for one in record.skipped)],
    )


def _mean_std(records: list[ShardRecord]) -> tuple[list[float], list[float]]:
    """Per channel, 0..1, from integer sums: exact but for the last division."""
    pixels = sum(sample.height * sample.width for record in records for sample in record.samples)
    mean, std = [], []
    for total, squares in zip(
        _add(record.channel_sum for record in records),
        _add(record.channel_square_sum for record in records),
        strict=True,
    ):
        mean.append(total / pixels / 255)
        std.append(math.sqrt(pixels * squares - total * total) / pixels / 255)
    return mean, std
