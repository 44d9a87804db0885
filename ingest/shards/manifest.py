"""The manifest: what a shard folder says about itself. The contract between ingest and everything downstream.

A shard folder holds, per shard, `<name>.tar` (the samples), `<name>.idx` (DALI's v1.2 index of it) and `<name>.json`
(this module's `ShardRecord`: one line of facts a sample), and once, written last, `dataset.json` (`Manifest`). A folder
without `dataset.json` is not a dataset: ingest did not finish.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ingest.errors import UserError, nearest
from ingest.shards import atomic

SCHEMA = 1
IGNORE = 255  # label value that counts nowhere: not in the loss, not in the metrics
FILE = "dataset.json"


@dataclass(frozen=True)
class Sample:
    """One image (and its label) in a shard."""

    key: str  # unique in the dataset, [A-Za-z0-9_-], at most 60 characters: the tar member's stem
    image: str  # the source image, relative to the raw dataset's root
    label: str | None  # the source label, or None in an unlabelled split
    image_ext: str  # "jpg" or "png", or "npy" (uint8 [H, W, C]) where channels is not 3: the tar member's extension
    height: int  # of the stored image, pixels
    width: int
    offset: list[int] | None = None  # of a tile in its source image: [y, x], pixels
    image_crc32: int | None = None  # of the stored files: a flipped bit in a JPEG often decodes without complaint
    label_crc32: int | None = None


@dataclass(frozen=True)
class Skipped:
    """A source file that was left out, and why."""

    file: str
    reason: str


@dataclass(frozen=True)
class ShardRecord:
    """`<name>.json`: everything known of one shard. Sums over samples, so that shards add up to splits."""

    name: str  # "train-000000"
    bytes: int  # of the tar
    sha256: str  # of the tar
    class_pixels: list[int]  # per class, over this shard's labels
    ignored_pixels: int
    channel_sum: list[int]  # per channel, of the 8-bit images: mean and std come from these, exactly
    channel_square_sum: list[int]
    samples: list[Sample]
    skipped: list[Skipped] = field(default_factory=list)  # broken ones that were to be in this shard


@dataclass(frozen=True)
class Shard:
    """A shard as `dataset.json` lists it."""

    name: str
    samples: int
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Split:
    """A named part of the dataset."""

    samples: int
    labeled: bool
    shards: list[Shard]
    class_pixels: list[int]
    ignored_pixels: int
    # "min", "median", "max" -> [height, width], each of its own axis, in pixels
    image_size: dict[str, list[int]]
    skipped: list[Skipped] = field(default_factory=list)


@dataclass(frozen=True)
class Manifest:
    """`dataset.json`: the task's facts, the splits, and the command that made them."""

    name: str
    classes: list[str]
    palette: list[list[int]]  # per class, RGB 0..255
    mean: list[float]  # per channel, 0..1, measured over the training split's images
    std: list[float]
    splits: dict[str, Split]
    command: str  # as typed, to make it again
    options: dict[str, Any]  # the same, parsed
    channels: int = 3
    ignore: int = IGNORE
    schema: int = SCHEMA

    @property
    def num_classes(self) -> int:
        return len(self.classes)

    def split(self, name: str) -> Split:
        """The split of that name; UserError lists the others."""
        if name not in self.splits:
            raise UserError(f"dataset {self.name!r} has no split {name!r}{nearest(name, self.splits)}")
        return self.splits[name]


def load(folder: str | os.PathLike[str]) -> Manifest:
    """Reads `dataset.json`. Raises UserError when the folder is no finished dataset, or of another schema."""
    path = Path(folder) / FILE
    if not path.is_file():
        what = (
            "has no dataset.json: ingest did not finish there, or it is another folder"
            if path.parent.is_dir()
            else "does not exist"
        )
        raise UserError(f"{path.parent} {what}; make shards with `python -m ingest ... --out {path.parent}`")
    try:
        raw = json.loads(path.read_text())
        if raw["schema"] != SCHEMA:
            raise UserError(f"{path} has schema {raw['schema']}, this version reads {SCHEMA}: ingest the dataset again")
        splits = {
            name: Split(
                **{
                    **split,
                    "shards": [Shard(**shard) for shard in split["shards"]],
                    "skipped": [Skipped(**skipped) for skipped in split["skipped"]],
                }
            )
            for name, split in raw.pop("splits").items()
        }
        found = Manifest(**raw, splits=splits)
        _check(found)
        return found
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path} is damaged ({error}): ingest the dataset again") from error


def _check(found: Manifest) -> None:
    """ValueError for what would otherwise show as wrong pixels, or not at all."""
    for name, values in (("mean", found.mean), ("std", found.std)):
        if len(values) != found.channels or not all(math.isfinite(value) and 0 <= value <= 1 for value in values):
            raise ValueError(f"{name} = {values}: expected {found.channels} numbers in 0..1")
    if len(found.palette) != len(found.classes):
        raise ValueError(f"{len(found.palette)} colours for {len(found.classes)} classes")
    for name, split in found.splits.items():
        if split.samples != sum(shard.samples for shard in split.shards):
            raise ValueError(f"the shards of split {name!r} do not add up to its {split.samples} samples")


def save(manifest: Manifest, folder: str | os.PathLike[str]) -> None:
    """Writes `dataset.json` atomically. Call it last: its presence means that the folder is whole."""
    text = json.dumps(dataclasses.asdict(manifest), indent=1)
    # A colour or a size on one line: people read this file.
    text = re.sub(r"\[\s+([-+\d.e,\s]+?)\s+\]", lambda match: f"[{' '.join(match[1].split())}]", text)
    atomic.write_text(Path(folder) / FILE, text + "\n")


def load_shard(folder: str | os.PathLike[str], name: str) -> ShardRecord:
    """Reads `<name>.json`."""
    path = Path(folder) / f"{name}.json"
    try:
        raw = json.loads(path.read_text())
        raw["skipped"] = [Skipped(**skipped) for skipped in raw.get("skipped", [])]
        record = ShardRecord(**{**raw, "samples": [Sample(**sample) for sample in raw["samples"]]})
        for sample in record.samples:
            if not (type(sample.height) is type(sample.width) is int and min(sample.height, sample.width) > 0):
                raise ValueError(f"{sample.key} has {sample.height!r} x {sample.width!r} pixels")
        return record
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing: restore it or ingest the dataset again") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path} is damaged ({error}): ingest the dataset again") from error


def save_shard(record: ShardRecord, folder: str | os.PathLike[str]) -> None:
    """Writes `<name>.json` atomically, one sample a line. Call it after the tar and its index are on disk."""
    raw = dataclasses.asdict(record)
    samples = ",\n  ".join(json.dumps(sample) for sample in raw.pop("samples"))
    head = json.dumps(raw)[:-1]
    atomic.write_text(Path(folder) / f"{record.name}.json", f'{head}, "samples": [\n  {samples}\n]}}\n')
