"""A shard folder's records, indexes and dataset.json made anew from its tars, in place; the tars are not touched.

For folders of schema 1, for a lost or damaged index, and for a dataset.json that was edited on purpose. Each file is
replaced whole, dataset.json last, so that a killed run leaves a folder that can be trained on, and the next goes on.
"""

from __future__ import annotations

import dataclasses
import os
import zlib
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ingest.errors import UserError
from ingest.pixels.decode import decode_image
from ingest.shards import areas, atomic, columns_writer, idx, manifest, rows, summary, sums
from ingest.shards.idx import Member
from ingest.shards.manifest import SCHEMA, Manifest, Sample, Shard, ShardRecord
from ingest.verify import check_tar


def reindex(folder: Path, edited: bool = False) -> Manifest:
    """Brings a folder to the present schema. UserError when a tar or a record is damaged: nothing makes up for those.

    edited: dataset.json was changed on purpose. What can be measured (pixel counts, sizes, mean, std) is measured anew.
    """
    old = manifest.load(folder, edited)
    # Told apart from then on: `verify` can no longer vouch for what ingest wrote there.
    changed = edited and sums.holds((folder / manifest.FILE).read_bytes()) is not True
    splits = {}
    mean, std = old.mean, old.std
    total = sum(shard.bytes for split in old.splits.values() for shard in split.shards)
    with tqdm(total=total, desc="reindex", unit="B", unit_scale=True, disable=None) as progress:
        for name, split in old.splits.items():
            records, record_sums = [], []
            for shard in split.shards:
                records.append(_record(folder, shard, split.labeled, old))
                record_sums.append(manifest.record_sha256(folder, shard.name))
                progress.update(shard.bytes)
            if not records:
                splits[name] = split
                continue
            index = columns_writer.write(folder, name, (columns_writer.of_samples(one.samples) for one in records))
            made = summary.split(records, record_sums, index, split.labeled)
            splits[name] = dataclasses.replace(made, skipped=split.skipped)
            if name == summary.training_split(old.splits):
                mean, std = summary.mean_std(records)
    new = dataclasses.replace(old, splits=splits, mean=mean, std=std, schema=SCHEMA, edited=old.edited or changed)
    manifest.save(new, folder)
    atomic.sweep(folder)  # of runs that were killed
    return manifest.load(folder)


def _record(folder: Path, shard: Shard, labeled: bool, facts: Manifest) -> ShardRecord:
    """A shard's record in the present schema; written where it was of an older one, with DALI's index."""
    tar = check_tar(folder, shard)
    members = idx.of_tar(tar)
    record = manifest.load_shard(folder, shard.name)
    path = folder / f"{shard.name}.json"
    same = (record.sha256, record.bytes, len(record.samples)) == (shard.sha256, shard.bytes, len(members))
    if not same or len(record.class_pixels) != facts.num_classes:
        raise UserError(f"{path} does not match its tar and dataset.json: restore it or ingest the dataset again")
    expected = idx.text(members).encode()
    if not tar.with_suffix(".idx").is_file() or tar.with_suffix(".idx").read_bytes() != expected:
        atomic.write_bytes(tar.with_suffix(".idx"), expected)
    if record.sum and all(sample.image_at is not None for sample in record.samples):
        return record
    with open(tar, "rb") as file:
        samples = [
            _sample(_contents(file.fileno(), files), sample, files, facts.channels, path)
            for sample, files in zip(record.samples, members, strict=True)
        ]
    class_pixels, ignored = summary.class_totals(samples, facts.num_classes)
    if (class_pixels, ignored) != (record.class_pixels, record.ignored_pixels) and labeled:
        raise UserError(f"{path}: its labels hold other pixels per class than it says: ingest the dataset again")
    made = dataclasses.replace(record, samples=samples)
    manifest.save_shard(made, folder)
    return made


def _contents(tar: int, members: list[Member]) -> list[bytes]:
    return [os.pread(tar, one.bytes, one.at) for one in members]


def _sample(contents: list[bytes], sample: Sample, members: list[Member], channels: int, path: Path) -> Sample:
    """With what schema 1 did not record: where the files lie, their sums, the rows' sums, the classes."""
    names = [f"{sample.key}.{sample.image_ext}", *([f"{sample.key}.seg.png"] if sample.label is not None else [])]
    if [one.name for one in members] != names:
        raise UserError(f"{path} does not match its tar at {sample.key!r}: restore it or ingest the dataset again")
    crcs = [zlib.crc32(content) for content in contents]
    stated = [sample.image_crc32, sample.label_crc32]
    if any(crc not in (None, found) for crc, found in zip(stated, crcs, strict=False)):
        raise UserError(f"{path} says another CRC-32 of {sample.key!r} than its file has: restore it")
    made = dataclasses.replace(sample, image_crc32=crcs[0], image_at=members[0].at, image_bytes=members[0].bytes)
    if sample.image_ext == "npy":
        pixels = rows.decode(np.frombuffer(contents[0], np.uint8), (sample.height, sample.width, channels))
        made = dataclasses.replace(made, row_crc32=rows.block_sums(pixels))
    if sample.label is not None:
        shown = areas.to_text(areas.measure(np.asarray(decode_image(contents[1], names[1]))))
        made = dataclasses.replace(
            made, label_crc32=crcs[1], label_at=members[1].at, label_bytes=members[1].bytes, classes=shown
        )
    return made
