"""Checks a shard folder: every byte of it, and that what its files say of each other is so."""

from __future__ import annotations

import hashlib
import os
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from tqdm import tqdm

from ingest.errors import UserError
from ingest.pixels.decode import decode_image
from ingest.pixels.rasters import count
from ingest.shards import areas, columns_writer, idx, manifest, rows, summary
from ingest.shards.columns import NAMES, IndexReader
from ingest.shards.manifest import Manifest, Sample, Shard, ShardRecord, Split
from ingest.shards.tar import read_samples

_CHUNK = 1 << 20
_OWN = (".tar", ".idx", ".npz", ".partial")  # what a reader might take for a part of the dataset


def verify(folder: Path, deep: bool = False) -> Manifest:
    """Re-reads every byte: sizes, sums, indexes, records, totals; `deep` decodes all samples and counts again.

    Raises UserError naming the first file at fault. What it lets pass, training reads without complaint.
    """
    facts = manifest.load(folder)
    keys: set[str] = set()
    total = sum(shard.bytes for split in facts.splits.values() for shard in split.shards)
    with tqdm(total=total, desc="verify", unit="B", unit_scale=True, disable=None) as progress:
        for name, split in facts.splits.items():
            records = []
            for shard in split.shards:
                records.append(_check_shard(folder, shard, split.labeled))
                _unique(keys, records[-1])
                if deep:
                    _recount(folder, records[-1], facts)
                progress.update(shard.bytes)
            if records:
                _check_split(folder, facts, name, records)
    _no_strangers(folder, facts)
    return facts


def check_tar(folder: Path, shard: Shard) -> Path:
    """A shard's tar, every byte as it was ingested; else a UserError."""
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
    return tar


def _check_shard(folder: Path, shard: Shard, labeled: bool) -> ShardRecord:
    tar = check_tar(folder, shard)
    index = tar.with_suffix(".idx")
    if not index.is_file():
        raise UserError(f"{index} is missing: restore it or make it anew with `python -m ingest reindex {folder}`")
    members = idx.of_tar(tar)
    if index.read_bytes() != idx.text(members).encode():
        raise UserError(
            f"{index} does not match its tar: restore it or make it anew with `python -m ingest reindex {folder}`"
        )
    record = manifest.load_shard(folder, shard.name)
    of = folder / f"{shard.name}.json"
    if shard.record_sha256 and manifest.record_sha256(folder, shard.name) != shard.record_sha256:
        raise UserError(f"{of} is not the file that was ingested (sha256 differs): restore it")
    named = [[f"{s.key}.{s.image_ext}", *([f"{s.key}.seg.png"] if labeled else [])] for s in record.samples]
    same = (record.sha256, record.bytes, len(record.samples)) == (shard.sha256, shard.bytes, shard.samples)
    if not same or [[one.name for one in files] for files in members] != named:
        raise UserError(f"{of} does not match its tar: restore it or ingest the dataset again")
    with open(tar, "rb") as file:
        for sample, files in zip(record.samples, members, strict=True):
            for kind, member in zip(("image", "label"), files, strict=False):
                _check_member(file.fileno(), sample, kind, member, of)
    if shard.record_sha256:
        _check_areas(record, labeled, of)
    return record


def _check_member(tar: int, sample: Sample, kind: str, member: idx.Member, of: Path) -> None:
    """What a record says of a stored file against the tar, which has been found whole."""
    crc = zlib.crc32(os.pread(tar, member.bytes, member.at))
    for what, found in (("crc32", crc), ("at", member.at), ("bytes", member.bytes)):
        stated = getattr(sample, f"{kind}_{what}")
        if stated is not None and stated != found:
            raise UserError(
                f"{of} says {kind}_{what} = {stated} of {sample.key!r}, the tar has {found}: restore the file, or "
                f"ingest the dataset again"
            )


def _check_areas(record: ShardRecord, labeled: bool, of: Path) -> None:
    """The classes of every sample add up to its size, and those of all samples to the shard's."""
    for sample in record.samples:
        pixels = sum(count for _, count, _ in sample.classes or [])
        if pixels != (sample.height * sample.width if labeled else 0):
            raise UserError(f"{of}: the classes of {sample.key!r} cover {pixels} pixels: restore the file")
    found = summary.class_totals(record.samples, len(record.class_pixels))
    _same(found, (record.class_pixels, record.ignored_pixels), f"{of}: pixels per class and ignored")


def _unique(keys: set[str], record: ShardRecord) -> None:
    for sample in record.samples:
        if sample.key in keys:
            raise UserError(f"{record.name}.json: the key {sample.key!r} is there twice: ingest the dataset again")
        keys.add(sample.key)


def _check_split(folder: Path, facts: Manifest, name: str, records: Sequence[ShardRecord]) -> None:
    """What dataset.json says of a split against the records of its shards, and the index against them."""
    split = facts.splits[name]
    found = summary.split(records, [shard.record_sha256 for shard in split.shards], split.index, split.labeled)
    names = ["samples", "class_pixels", "ignored_pixels", "unmatched_pixels", "image_size"]
    if split.index is not None:
        names += ["class_images", "class_image_pixels"]
        _check_index(folder, name, split, records)
    for what in names:
        _same(getattr(found, what), getattr(split, what), f"{folder / manifest.FILE}: split {name!r}: {what}")
    if found.skipped and split.skipped[-len(found.skipped) :] != found.skipped:
        raise UserError(f"{folder / manifest.FILE}: split {name!r} lists other skipped files than its shards")
    if name == summary.training_split(facts.splits):
        _same(summary.mean_std(records), (facts.mean, facts.std), f"{folder / manifest.FILE}: mean and std")


def _check_index(folder: Path, name: str, split: Split, records: Sequence[ShardRecord]) -> None:
    assert split.index is not None
    path = folder / manifest.index_name(name)
    reader = IndexReader(path, split.index)
    remedy = f"restore it, or make it anew with `python -m ingest reindex {folder}`"
    if columns_writer.described(path) != split.index:
        raise UserError(f"{path} is not the file that was ingested (sha256 differs): {remedy}")
    reader.check(*NAMES)
    expected = columns_writer.joined([columns_writer.of_samples(record.samples) for record in records])
    for column in NAMES:
        if not np.array_equal(getattr(reader.columns, column), getattr(expected, column)):
            raise UserError(f"{path}: {column} does not match the shards' records: {remedy}")


def _recount(folder: Path, record: ShardRecord, facts: Manifest) -> None:
    """Decodes every sample of a shard: sizes, label values and totals must be as recorded."""
    ids = np.zeros(256, np.int64)
    sums, squares = np.zeros(facts.channels, np.int64), np.zeros(facts.channels, np.int64)
    for sample, (key, files) in zip(record.samples, read_samples(folder / f"{record.name}.tar"), strict=True):
        pixels = _pixels(sample, files, f"{record.name}: {key}", facts.channels)
        for total, found in zip((sums, squares), count(pixels), strict=True):
            total += np.array(found)
        if sample.row_crc32 is not None:
            _same(rows.block_sums(pixels), sample.row_crc32, f"{record.name}: sums of the rows of {key}")
        if sample.label is not None:
            label = decode_image(files["seg.png"], f"{record.name}: {key}.seg.png")
            shape = (label.mode, label.size)
            _same(shape, ("L", (sample.width, sample.height)), f"{record.name}: mode and size of {key}.seg.png")
            ids += np.array(label.histogram(), np.int64)
            if sample.classes is not None:
                shown = areas.to_text(areas.measure(np.asarray(label)))
                _same(shown, sample.classes, f"{record.name}: classes of {key}")
    _same(ids[: facts.num_classes].tolist(), record.class_pixels, f"{record.name}: class pixels")
    _same(int(ids[facts.ignore]), record.ignored_pixels, f"{record.name}: ignored pixels")
    _same(int(ids.sum()), sum(record.class_pixels) + record.ignored_pixels, f"{record.name}: pixels with a class")
    _same(sums.tolist(), record.channel_sum, f"{record.name}: channel sums")
    _same(squares.tolist(), record.channel_square_sum, f"{record.name}: channel square sums")


def _pixels(sample: Sample, files: dict[str, bytes], name: str, channels: int) -> NDArray[np.uint8]:
    """uint8 [H, W, C] of the stored image; UserError where its size is another, or training's decoder would refuse."""
    data = files[sample.image_ext]
    shape = (sample.height, sample.width, channels)
    if sample.image_ext == "npy":
        try:
            return rows.decode(np.frombuffer(data, np.uint8), shape)
        except ValueError as error:
            raise UserError(f"{name}.npy is {error}: ingest the dataset again") from error
    if sample.image_ext == "jpg":
        try:
            simplejpeg.decode_jpeg(data, "RGB", strict=True)
        except ValueError as error:
            raise UserError(f"{name}.jpg is broken ({error}): ingest the dataset again") from error
    pixels = np.asarray(decode_image(data, f"{name}.{sample.image_ext}"))
    _same(pixels.shape, shape, f"{name}: size")
    return pixels


def _same(found: object, stated: object, what: str) -> None:
    if found != stated:
        raise UserError(f"{what}: found {_short(found)}, recorded was {_short(stated)}: ingest the dataset again")


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 300 else text[:297] + "..."


def _no_strangers(folder: Path, facts: Manifest) -> None:
    """A tar that no one lists would be read by `folder/*.tar` all the same."""
    listed = {f"{shard.name}{ext}" for split in facts.splits.values() for shard in split.shards for ext in _OWN[:2]}
    listed |= {manifest.index_name(name) for name, split in facts.splits.items() if split.index}
    for name in sorted(os.listdir(folder)):
        if os.path.splitext(name)[1] in _OWN and name not in listed:
            raise UserError(f"{folder / name} is not listed in dataset.json: it is of another run; remove it")
