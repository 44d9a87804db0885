"""Shards' records to columns, and columns to `<split>.index.npz` (`ingest.shards.columns`)."""

from __future__ import annotations

import hashlib
import io
import shutil
import struct
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ingest.shards import areas, atomic
from ingest.shards.columns import ENTRIES, FORMS, NAMES, Columns, directory
from ingest.shards.manifest import IndexFile, Sample, index_name

_ALIGNED = 64  # bytes: where a column's numbers begin, so that any processor takes them in place
_CHUNK = 1 << 20
_ZIP64 = 20  # bytes that `force_zip64` puts into a member's header
_FILLER = 0x5347  # id of the header field that only fills up


def of_samples(samples: Sequence[Sample]) -> Columns:
    """The columns of some samples. What a sample of schema 1 has not (sums, classes) is 0 or empty."""
    shown = [areas.from_text(sample.classes or []) for sample in samples if sample.classes] or [areas.from_text([])]
    keys = [sample.key.encode() for sample in samples]
    rows = [sample.row_crc32 or [] for sample in samples]

    def numbers(name: str, dtype: Any) -> NDArray[Any]:
        return np.array([getattr(sample, name) or 0 for sample in samples], dtype)

    return Columns(
        key_end=_ends(keys),
        key_text=np.frombuffer(b"".join(keys), np.uint8),
        image_form=np.array([FORMS.index(sample.image_ext) for sample in samples], np.uint8),
        image_at=numbers("image_at", np.int64),
        image_bytes=numbers("image_bytes", np.int64),
        image_crc32=numbers("image_crc32", np.uint32),
        label_at=numbers("label_at", np.int64),
        label_bytes=numbers("label_bytes", np.int64),
        label_crc32=numbers("label_crc32", np.uint32),
        size_hw=np.array([(sample.height, sample.width) for sample in samples], np.int64).reshape(-1, 2),
        row_end=_ends(rows),
        row_crc32=np.array([crc for row in rows for crc in row], np.uint32),
        class_end=_ends([sample.classes or [] for sample in samples]),
        class_id=np.concatenate([one.ids for one in shown]),
        class_pixels=np.concatenate([one.pixels for one in shown]),
        class_grid=np.concatenate([one.grids for one in shown]),
    )


def joined(parts: Sequence[Columns]) -> Columns:
    """The columns of shards, one after the other."""
    before = dict.fromkeys(NAMES, 0)
    shifted = [dict(_shifted_by(before, part)) for part in parts]
    return Columns(**{name: np.concatenate([one[name] for one in shifted]) for name in NAMES})


def write(folder: Path, split: str, parts: Iterable[Columns]) -> IndexFile:
    """Writes a split's index from the columns of its shards, a shard at a time in memory. Same columns, same bytes."""
    with atomic.replacing(folder / index_name(split)) as path:
        spools = {name: open(path.parent / name, "w+b") for name in NAMES}  # noqa: SIM115  closed below
        try:
            before = dict.fromkeys(NAMES, 0)
            for part in parts:
                for name, column in _shifted_by(before, part):
                    spools[name].write(column.tobytes())
            with zipfile.ZipFile(path, "w") as archive:
                for name in NAMES:
                    _add(archive, name, spools[name])
        finally:
            for spool in spools.values():
                spool.close()
        return described(path)


def described(path: Path) -> IndexFile:
    """An index's size and sums, as dataset.json lists them."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
        start, _ = directory(file)
        file.seek(start)
        tail = file.read()
        return IndexFile(file.tell(), digest.hexdigest(), hashlib.sha256(tail).hexdigest())


def _add(archive: zipfile.ZipFile, name: str, spool: Any) -> None:
    """A column as a stored member, its header filled up so that the numbers begin at a multiple of 64 bytes."""
    kind, each = ENTRIES[name]
    size = spool.tell()
    entry = np.dtype(kind).itemsize * int(np.prod(each, dtype=int))
    head = io.BytesIO()
    fields = {"descr": kind, "fortran_order": False, "shape": (size // entry, *each)}
    np.lib.format.write_array_header_1_0(head, fields)  # a multiple of 64 bytes long
    info = zipfile.ZipInfo(f"{name}.npy")  # of no date: 1980
    info.external_attr = 0o644 << 16
    at = archive.start_dir + 30 + len(info.filename) + _ZIP64 + 4
    info.extra = struct.pack("<HH", _FILLER, -at % _ALIGNED) + bytes(-at % _ALIGNED)
    with archive.open(info, "w", force_zip64=True) as member:
        member.write(head.getvalue())
        spool.seek(0)
        shutil.copyfileobj(spool, member, _CHUNK)


def _ends(parts: Sequence[Any]) -> NDArray[np.int64]:
    return np.cumsum([len(part) for part in parts], dtype=np.int64)


def _shifted_by(before: dict[str, int], part: Columns) -> Iterable[tuple[str, NDArray[Any]]]:
    """A shard's columns, ends counted from the split's beginning. `before` is moved on."""
    for name in NAMES:
        column = getattr(part, name)
        if name.endswith("_end"):
            column = column + before[name]
            before[name] = int(column[-1])
        yield name, column.astype(ENTRIES[name][0], copy=False)
