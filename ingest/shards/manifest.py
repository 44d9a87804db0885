"""The manifest: what a shard folder says about itself. The contract between ingest and everything downstream.

A shard folder holds, per shard, `<name>.tar` (the samples), `<name>.idx` (DALI's v1.2 index of it) and `<name>.json`
(this module's `ShardRecord`: one line of facts a sample); per split `<split>.index.npz` (the same facts in columns, for
readers: `ingest.shards.columns`); and once, written last, `dataset.json` (`Manifest`). A folder without `dataset.json`
is not a dataset: ingest did not finish. docs/format.md describes every file.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
import re
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from ingest.errors import UserError
from ingest.shards import atomic, sums
from ingest.shards.facts import (
    IGNORE,
    SCHEMA,
    ImageExt,
    IndexFile,
    Manifest,
    Sample,
    Shard,
    ShardRecord,
    Skipped,
    Split,
)

__all__ = [  # what most callers want of `ingest.shards.facts` beside
    "IGNORE",
    "SCHEMA",
    "ImageExt",
    "IndexFile",
    "Manifest",
    "Sample",
    "Shard",
    "ShardRecord",
    "Skipped",
    "Split",
]
FILE = "dataset.json"

_MANIFEST, _RECORD = TypeAdapter(Manifest), TypeAdapter(ShardRecord)


def index_name(split: str) -> str:
    """The file of a split's columns."""
    return f"{split}.index.npz"


def load(folder: str | os.PathLike[str], edited: bool = False) -> Manifest:
    """Reads `dataset.json`. Raises UserError when the folder is no finished dataset, of another schema, or damaged.

    edited: take a file whose sum differs, for it was changed on purpose.
    """
    path = Path(folder) / FILE
    if not path.is_file():
        what = (
            "has no dataset.json: ingest did not finish there, or it is another folder"
            if path.parent.is_dir()
            else "is a file, not a shard folder"
            if path.parent.exists()
            else "does not exist"
        )
        raise UserError(f"{path.parent} {what}; make shards with `python -m ingest ... --out {path.parent}`")
    return parse(path.read_bytes(), path, edited)


def parse(raw: bytes, path: Path, edited: bool = False) -> Manifest:
    """The same for the content of a `dataset.json`; `path` is what errors name."""
    try:
        schema = json.loads(raw)["schema"]
        if schema not in (1, SCHEMA):
            raise UserError(
                f"{path} has schema {schema!r}, this version reads 1 and {SCHEMA}: use a newer version, or ingest the "
                f"dataset again"
            )
        holds = sums.holds(raw)
        if not edited and (holds is False or (holds is None and schema == SCHEMA)):
            raise UserError(
                f"{path} is not as ingest wrote it (its sum differs): restore it; if you changed it on purpose, sign "
                f"it with `python -m ingest reindex {path.parent} --edited`"
            )
        found = _MANIFEST.validate_json(raw)
        _check(found)
        return found
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path} is damaged ({_reason(error)}): restore it, or ingest the dataset again") from error


def _check(found: Manifest) -> None:
    """ValueError for what would otherwise show as wrong pixels, or not at all."""
    for name, values in (("mean", found.mean), ("std", found.std)):
        if len(values) != found.channels or not all(math.isfinite(value) and 0 <= value <= 1 for value in values):
            raise ValueError(f"{name} = {values}: expected {found.channels} numbers in 0..1")
    if len(found.palette) != len(found.classes):
        raise ValueError(f"{len(found.palette)} colors for {len(found.classes)} classes")
    for color in found.palette:
        if len(color) != 3 or not all(0 <= value <= 255 for value in color):
            raise ValueError(f"color {color}: expected red, green and blue in 0..255")
    if found.ignore != IGNORE:
        raise ValueError(f"ignore = {found.ignore}: expected {IGNORE}")
    for name, split in found.splits.items():
        _check_split(name, split, len(found.classes), found.schema)


def _check_split(name: str, split: Split, classes: int, schema: int) -> None:
    if "/" in name or "\0" in name or not name:
        raise ValueError(f"split {name!r}: a name without slashes is expected")
    for number, shard in enumerate(split.shards):
        # Samples are numbered in this order. A shard twice, out of turn or from elsewhere would not be noticed later.
        if shard.name != f"{name}-{number:06d}":
            raise ValueError(f"shard {number} of split {name!r} is {shard.name!r}, expected {name}-{number:06d}")
        if shard.samples < 1 or shard.bytes < 1:
            raise ValueError(f"shard {shard.name} has {shard.samples} samples in {shard.bytes} bytes")
    if split.samples != sum(shard.samples for shard in split.shards):
        raise ValueError(f"the shards of split {name!r} do not add up to its {split.samples} samples")
    per_class = [split.class_pixels, *([split.class_images, split.class_image_pixels] if schema > 1 else [])]
    if split.shards and any(len(counts) != classes for counts in per_class):
        raise ValueError(f"split {name!r} counts other than {classes} classes")
    if any(count < 0 for counts in per_class for count in counts) or split.ignored_pixels < 0:
        raise ValueError(f"split {name!r} counts less than no pixels")
    if schema > 1 and split.shards and split.index is None:
        raise ValueError(f"split {name!r} has no index")


def save(manifest: Manifest, folder: str | os.PathLike[str]) -> None:
    """Writes `dataset.json` atomically. Call it last: its presence means that the folder is whole."""
    raw = dataclasses.asdict(manifest)
    del raw["sum"]
    if not manifest.edited:
        del raw["edited"]
    text = json.dumps(raw, indent=1)
    # A color or a size on one line: people read this file.
    text = re.sub(r"\[\s+([-+\d.e,\s]+?)\s+\]", lambda match: f"[{' '.join(match[1].split())}]", text)
    atomic.write_text(Path(folder) / FILE, sums.seal(text))


def load_shard(folder: str | os.PathLike[str], name: str) -> ShardRecord:
    """Reads `<name>.json`. UserError when it is missing or damaged."""
    path = Path(folder) / f"{name}.json"
    try:
        raw = path.read_bytes()
        if sums.holds(raw) is False:
            raise ValueError("its sum differs")
        record = _RECORD.validate_json(raw)
        for sample in record.samples:
            if min(sample.height, sample.width) < 1:
                raise ValueError(f"{sample.key} has {sample.height} x {sample.width} pixels")
        if record.name != name:
            raise ValueError(f"it is that of {record.name!r}")
        return record
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing: restore it or ingest the dataset again") from error
    except (ValueError, IsADirectoryError) as error:
        raise UserError(f"{path} is damaged ({_reason(error)}): restore it or ingest the dataset again") from error


def save_shard(record: ShardRecord, folder: str | os.PathLike[str]) -> None:
    """Writes `<name>.json` atomically, one sample a line. Call it after the tar and its index are on disk."""
    raw = dataclasses.asdict(record)
    del raw["sum"]
    lines = [
        json.dumps({key: value for key, value in sample.items() if value is not None or key == "label"})
        for sample in raw.pop("samples")
    ]
    samples = ",\n  ".join(lines)
    head = json.dumps(raw)[:-1]
    atomic.write_text(Path(folder) / f"{record.name}.json", sums.seal(f'{head}, "samples": [\n  {samples}\n]}}'))


def record_sha256(folder: str | os.PathLike[str], name: str) -> str:
    """Of `<name>.json` as it lies there."""
    return hashlib.sha256((Path(folder) / f"{name}.json").read_bytes()).hexdigest()


def _reason(error: Exception) -> str:
    """One line: of pydantic's several, the first, with the key it is about."""
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False)[0]
        value = repr(first["input"])
        where = ".".join(map(str, first["loc"]))
        if first["type"] == "missing":
            return f"{where} is missing"
        return f"{where}: {first['msg']}, found {value if len(value) < 60 else value[:57] + '...'}"
    return str(error) or type(error).__name__
