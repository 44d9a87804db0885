"""Checks a shard folder against its dataset.json."""

from __future__ import annotations

import hashlib
import io
import os
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ingest.errors import UserError
from ingest.pixels.decode import decode_image
from ingest.pixels.rasters import count
from ingest.shards import manifest
from ingest.shards.manifest import Manifest, Shard, ShardRecord
from ingest.shards.tar import index_of, read_samples

_CHUNK = 1 << 20


def verify(folder: Path, deep: bool = False) -> Manifest:
    """Re-reads every byte: sizes, sha256, indexes, records, sums; `deep` decodes all samples and counts again.

    Raises UserError naming the first file at fault.
    """
    facts = manifest.load(folder)
    total = sum(shard.bytes for split in facts.splits.values() for shard in split.shards)
    with tqdm(total=total, desc="verify", unit="B", unit_scale=True, disable=None) as progress:
        for name, split in facts.splits.items():
            records = []
            for shard in split.shards:
                records.append(_check_shard(folder, shard, split.labeled))
                if deep:
                    _recount(folder, records[-1], facts)
                progress.update(shard.bytes)
            _same(sum(len(record.samples) for record in records), split.samples, f"split {name!r}: samples")
            pixels = [sum(column) for column in zip(*(record.class_pixels for record in records), strict=True)]
            _same(pixels, split.class_pixels, f"split {name!r}: class pixels")
            _same(
                sum(record.ignored_pixels for record in records),
                split.ignored_pixels,
                f"split {name!r}: ignored pixels",
            )
    _no_strangers(folder, facts)
    return facts


def _check_shard(folder: Path, shard: Shard, labeled: bool) -> ShardRecord:
    tar = folder / f"{shard.name}.tar"
    if not tar.is_file():
        raise UserError(f"{tar} is missing: restore it or ingest the dataset again")
    size = tar.stat().st_size
    if size != shard.bytes:
        raise UserError(
            f"{tar} has {size} bytes, dataset.json says {shard.bytes}: copy it again or ingest the dataset again"
        )
    digest = hashlib.sha256()
    with open(tar, "rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    if digest.hexdigest() != shard.sha256:
        raise UserError(
            f"{tar} is not the file that was ingested (sha256 differs): copy it again or ingest the dataset again"
        )
    index = tar.with_suffix(".idx")
    if not index.is_file():
        raise UserError(f"{index} is missing: restore it or ingest the dataset again")
    if index.read_bytes() != index_of(tar).encode():
        raise UserError(f"{index} does not match its tar: restore it or ingest the dataset again")
    record = manifest.load_shard(folder, shard.name)
    members = [
        member
        for sample in record.samples
        for member in (f"{sample.key}.{sample.image_ext}", *([f"{sample.key}.seg.png"] if labeled else []))
    ]
    if record.sha256 != shard.sha256 or [line.split()[3::4] for line in index.read_text().splitlines()[1:]] != (
        [members[at : at + 1 + labeled] for at in range(0, len(members), 1 + labeled)]
    ):
        raise UserError(f"{folder / shard.name}.json does not match its tar: restore it or ingest the dataset again")
    return record


def _recount(folder: Path, record: ShardRecord, facts: Manifest) -> None:
    """Decodes every sample of a shard: sizes, label values and sums must be as recorded."""
    ids, sums = np.zeros(256, np.int64), np.zeros(facts.channels, np.int64)
    for sample, (key, files) in zip(record.samples, read_samples(folder / f"{record.name}.tar"), strict=True):
        if sample.image_ext == "npy":
            pixels = np.load(io.BytesIO(files["npy"]), allow_pickle=False)
        else:
            pixels = np.asarray(decode_image(files[sample.image_ext], f"{record.name}: {key}.{sample.image_ext}"))
        shape = (sample.height, sample.width, facts.channels)
        _same(pixels.shape, shape, f"{record.name}: size of {key}")
        sums += np.array(count(pixels)[0])
        if sample.label is not None:
            label = decode_image(files["seg.png"], f"{record.name}: {key}.seg.png")
            _same(
                (label.mode, label.size),
                ("L", (sample.width, sample.height)),
                f"{record.name}: mode and size of {key}.seg.png",
            )
            ids += np.array(label.histogram(), np.int64)
    _same(ids[: facts.num_classes].tolist(), record.class_pixels, f"{record.name}: class pixels")
    _same(int(ids[facts.ignore]), record.ignored_pixels, f"{record.name}: ignored pixels")
    _same(int(ids.sum()), sum(record.class_pixels) + record.ignored_pixels, f"{record.name}: pixels with a class")
    _same(sums.tolist(), record.channel_sum, f"{record.name}: channel sums")


def _same(found: object, stated: object, what: str) -> None:
    if found != stated:
        raise UserError(f"{what}: found {found}, recorded was {stated}: ingest the dataset again")


def _no_strangers(folder: Path, facts: Manifest) -> None:
    """A tar that no one lists would be read by `folder/*.tar` all the same."""
    listed = {shard.name for split in facts.splits.values() for shard in split.shards}
    for name in sorted(os.listdir(folder)):
        stem, ext = os.path.splitext(name)
        if ext in (".tar", ".partial") and stem not in listed:
            raise UserError(f"{folder / name} is not listed in dataset.json: it is of another run; remove it")
