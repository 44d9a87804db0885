"""A raw dataset in, a shard folder out: planned before anything is decoded, written in order, whole or not at all."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ingest import cluster, room, tiling
from ingest.convert import Rules, convert_all
from ingest.errors import UserError
from ingest.one_shard import write_shard
from ingest.pixels.images import Format
from ingest.pixels.labels import DrawnLabel
from ingest.plan import PlannedShard, plan
from ingest.resume import begin, claim, fingerprint, finished, forget_stamps, stamp
from ingest.shards import columns_writer, manifest, summary
from ingest.shards.manifest import IGNORE, Manifest
from ingest.sources.archives import Source
from ingest.sources.raw import RawDataset


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
    dask: str | None = None  # address of a Dask scheduler, whose workers make the shards; no byte depends on it
    url: str | None = None  # with dask: where its workers put the shards; None: into the folder, which they share


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
                if settings.url:
                    raise UserError(
                        "--dask cuts scenes into tiles by way of a folder that all workers share: give such an --out, "
                        f"and copy it to {settings.url} afterwards"
                    )
                pairs = (pair for pairs in raw.splits.values() for pair in pairs)
                tiling.prepare(pairs, partial, raw, settings.workers, settings.skip_bad)
            _write_shards([(shard, stamps[shard.name]) for shard in shards], raw.name, rules, settings)
            facts = summarize(raw, shards, partial, settings)
            tiling.remove(partial)
            forget_stamps(partial)
            manifest.save(facts, partial)
        except BaseException as error:
            kept = sum(finished(partial, name, one, settings.url) is not None for name, one in stamps.items())
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


def _write_shards(shards: list[tuple[PlannedShard, str]], name: str, rules: Rules, settings: Settings) -> None:
    """The shards that are not finished yet, each with its sources' stamp."""
    folder = Path(rules.folder)
    todo = [(shard, mark) for shard, mark in shards if finished(folder, shard.name, mark, settings.url) is None]
    pairs = [sample.pair for shard, _ in todo for sample in shard.samples]
    total = sum(len(shard.samples) for shard, _ in shards)
    with tqdm(total=total, initial=total - len(pairs), desc=name, unit="img", disable=None) as progress:
        if settings.dask:
            jobs = [cluster.Job(shard, mark, rules, settings.url) for shard, mark in todo]
            cluster.write_shards(jobs, settings.dask, progress.update)
            return
        converted = convert_all(pairs, rules, max(1, min(settings.workers, len(pairs))))
        with contextlib.closing(converted):
            for shard, mark in todo:
                begin(folder, shard.name, mark)
                write_shard(shard, folder, converted, len(rules.classes), progress.update)


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
