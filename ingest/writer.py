"""A raw dataset in, a shard folder out: planned before anything is decoded, written in order, whole or not at all."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ingest import room, tiling
from ingest.convert import Converted, Rules, convert_all
from ingest.errors import UserError
from ingest.pixels.images import Format
from ingest.pixels.labels import DrawnLabel
from ingest.plan import Planned, PlannedShard, plan
from ingest.resume import begin, claim, fingerprint, finished, forget_stamps, stamp
from ingest.shards import columns_writer, manifest, summary
from ingest.shards.idx import Member
from ingest.shards.manifest import IGNORE, Manifest, Sample, ShardRecord, Skipped
from ingest.shards.tar import TarWriter
from ingest.sources.archives import Source
from ingest.sources.raw import Pair, RawDataset


@dataclass(frozen=True)
class Settings:
    """How a dataset is to be written."""

    shard_size: int  # bytes, about
    seed: int  # of the order of the samples
    command: str  # as typed, for dataset.json
    options: dict[str, Any]  # the same, parsed
    workers: int = 1  # processes; no byte depends on them
    images: Format = Format()  # noqa: RUF009  frozen
    skip_bad: bool = False  # leave broken samples out and list them
    resume: bool = False  # go on from a killed run's finished shards


def write(raw: RawDataset, out: Path, settings: Settings) -> Manifest:
    """Writes shards and `dataset.json` into `out`, by way of `<out>.partial`. Returns the manifest.

    Raises UserError when `out` is not empty or a source file is at fault, OSError when the disk is. Then nothing
    is left but whole shards in `<out>.partial`, from which `resume` goes on.
    """
    if settings.resume and (out / manifest.FILE).exists():
        facts = manifest.load(out)
        if (facts.command, facts.options) == (settings.command, settings.options):
            return facts
    refuse_existing(out)
    partial = out.with_name(out.name + ".partial")
    shards = plan(raw, source_bytes_a_shard(raw, out, settings.images, settings.shard_size), settings.seed)
    rules = Rules(raw.labels, tuple(raw.classes), settings.images, settings.skip_bad, str(partial), _empty(raw))
    # without skip_bad: who stumbles over a broken file late may go on with it
    deciding = {key: value for key, value in settings.options.items() if key != "skip_bad"}
    digest = fingerprint(raw.name, raw.classes, deciding, [_identity(shard) for shard in shards])
    with claim(partial, digest, settings.resume):
        stamps = {shard.name: stamp(_sources(shard)) for shard in shards}
        try:
            if any(pair.window for pairs in raw.splits.values() for pair in pairs):
                pairs = (pair for pairs in raw.splits.values() for pair in pairs)
                tiling.prepare(pairs, partial, raw, settings.workers, settings.skip_bad)
            _write_shards([(shard, stamps[shard.name]) for shard in shards], raw.name, rules, settings.workers)
            facts = summarize(raw, shards, partial, settings)
            tiling.remove(partial)
            forget_stamps(partial)
            manifest.save(facts, partial)
        except BaseException as error:
            kept = sum(finished(partial, name, one) is not None for name, one in stamps.items())
            if not kept:
                shutil.rmtree(partial, ignore_errors=True)
            else:
                _tell(error, f"{kept} of {len(shards)} shards are done: go on with --resume")
            raise
    if out.exists():
        out.rmdir()  # empty, checked above
    os.replace(partial, out)
    return facts


def source_bytes_a_shard(raw: RawDataset, out: Path, images: Format, shard_size: int) -> int:
    """How many bytes of source files fill a shard of `shard_size`.

    Images stored as pixels are larger than their files: says what they will take. UserError where `out`'s disk has
    less.
    """
    if images.kind != "raw":
        return shard_size
    source = sum(pair.bytes for pairs in raw.splits.values() for pair in pairs)
    needed = room.raw_bytes(raw, images.max_side)
    tqdm.write(room.check(needed, source, out), file=sys.stderr)
    return max(1, shard_size * source // max(1, needed))


def _sources(shard: PlannedShard) -> list[Source | DrawnLabel]:
    """The files that a shard is made from."""
    return [one for sample in shard.samples for one in (sample.pair.image, sample.pair.label) if one is not None]


def _empty(raw: RawDataset) -> frozenset[int] | None:
    """The train ids that alone make an image empty, where such images are to be left out."""
    if not raw.drop_empty:
        return None
    return frozenset({IGNORE} if raw.background is None else {IGNORE, raw.background})


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


def _write_shards(shards: list[tuple[PlannedShard, str]], name: str, rules: Rules, workers: int) -> None:
    """The shards that are not finished yet, each with its sources' stamp."""
    folder = Path(rules.folder)
    todo = [(shard, mark) for shard, mark in shards if finished(folder, shard.name, mark) is None]
    pairs = [sample.pair for shard, _ in todo for sample in shard.samples]
    total = sum(len(shard.samples) for shard, _ in shards)
    converted = convert_all(pairs, rules, max(1, min(workers, len(pairs))))
    with (
        contextlib.closing(converted),
        tqdm(total=total, initial=total - len(pairs), desc=name, unit="img", disable=None) as progress,
    ):
        for shard, mark in todo:
            begin(folder, shard.name, mark)
            _write_shard(shard, folder, converted, len(rules.classes), progress)


def _write_shard(
    shard: PlannedShard,
    folder: Path,
    converted: Iterator[Converted | Skipped],
    num_classes: int,
    progress: tqdm,
) -> None:
    tar = TarWriter(folder, shard.name)
    samples, totals = [], _Totals()
    skipped: list[Skipped] = []
    try:
        for planned in shard.samples:
            result = next(converted)
            if isinstance(result, Skipped):
                skipped.append(result)
            else:
                files = _files(planned.pair, result)
                samples.append(_sample(planned, result, files, tar.add(planned.key, files)))
                totals.add(result)
            progress.update()
        if not samples:
            raise UserError(f"every sample of {shard.name} is broken, the first: {skipped[0].reason}")
        digest = tar.close()
    except BaseException:
        tar.abort()
        raise
    class_pixels, ignored = summary.class_totals(samples, num_classes)
    record = ShardRecord(
        shard.name,
        tar.size,
        digest,
        class_pixels,
        ignored,
        totals.channels,
        totals.squares,
        samples,
        skipped,
        totals.unmatched,
    )
    manifest.save_shard(record, folder)


@dataclass
class _Totals:
    """A shard's totals over its images, those of pixels per channel."""

    channels: list[int] = field(default_factory=list)
    squares: list[int] = field(default_factory=list)
    unmatched: int = 0

    def add(self, image: Converted) -> None:
        self.channels = summary.add([self.channels or [0] * len(image.channel_sum), image.channel_sum])
        self.unmatched += image.unmatched
        self.squares = summary.add([self.squares or [0] * len(image.channel_sum), image.channel_square_sum])


def _files(pair: Pair, sample: Converted) -> list[tuple[str, bytes]]:
    image: list[tuple[str, bytes]] = [(sample.image_ext, sample.image or pair.image.read())]
    return image if sample.label is None else [*image, ("seg.png", sample.label)]


def _sample(planned: Planned, result: Converted, files: list[tuple[str, bytes]], members: list[Member]) -> Sample:
    """What the shard's record says of a sample."""
    pair, crcs = planned.pair, [zlib.crc32(data) for _, data in files]
    return Sample(
        key=planned.key,
        image=pair.image.name,
        label=pair.label.name if pair.label else None,
        image_ext=result.image_ext,
        height=result.height,
        width=result.width,
        offset=list(pair.window[:2]) if pair.window else None,
        image_crc32=crcs[0],
        label_crc32=crcs[1] if pair.label else None,
        image_at=members[0].at,
        image_bytes=members[0].bytes,
        label_at=members[1].at if pair.label else None,
        label_bytes=members[1].bytes if pair.label else None,
        row_crc32=result.row_crc32,
        classes=result.classes,
        geo=pair.place.as_dict() if pair.place else None,
    )


def summarize(raw: RawDataset, shards: Sequence[PlannedShard], folder: Path, settings: Settings) -> Manifest:
    """Writes the splits' indexes beside the shards, from their records; returns what dataset.json is to say."""
    splits = {}
    mean, std = [0.0], [0.0]
    for name, pairs in raw.splits.items():
        names = [shard.name for shard in shards if shard.split == name]
        records = [manifest.load_shard(folder, one) for one in names]  # a split at a time in memory
        index = columns_writer.write(folder, name, (columns_writer.of_samples(record.samples) for record in records))
        sums = [manifest.record_sha256(folder, one) for one in names]
        labeled = pairs[0].label is not None
        splits[name] = summary.split(records, sums, index, labeled, raw.skipped.get(name, []))
        if name == summary.training_split(raw.splits):
            mean, std = summary.mean_std(records)
    return Manifest(
        name=raw.name,
        classes=list(raw.classes),
        palette=[list(color) for color in raw.palette],
        mean=mean,
        std=std,
        splits=splits,
        command=settings.command,
        options=settings.options,
        channels=len(mean),
        pixels=raw.pixels.as_dict(),
        raw_ids=_raw_ids(raw),
    )


def _raw_ids(raw: RawDataset) -> list[int] | None:
    """Per class its value in the source's index masks; None where the labels are none."""
    ids: dict[int, int] = {}
    for value, train in sorted(raw.labels.ids.items()):
        ids.setdefault(train, value)
    wanted = range(len(raw.classes))
    return [ids[c] for c in wanted] if all(c in ids for c in wanted) else None
