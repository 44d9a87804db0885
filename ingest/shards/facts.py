"""What a shard folder says about itself, as dataclasses: a sample, a shard's record, a split, the dataset.

`ingest.shards.manifest` reads and writes them; docs/format.md describes the files.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import ConfigDict

from ingest.errors import UserError, nearest

SCHEMA = 2  # 1: no sums, no class areas, no columns; still read, `python -m ingest reindex` makes it a 2
IGNORE = 255  # label value that counts nowhere: not in the loss, not in the metrics
_STRICT = ConfigDict(strict=True, extra="forbid")  # a number in quotes or an unknown key is damage

ImageExt = Literal["jpg", "png", "npy"]


@dataclass(frozen=True)
class Sample:
    """One image (and its label) in a shard."""

    __pydantic_config__ = _STRICT

    key: str  # unique in the dataset, [A-Za-z0-9_-], at most 60 characters: the tar member's stem
    image: str  # the source image, relative to the raw dataset's root
    label: str | None  # the source label, or None in an unlabeled split
    image_ext: ImageExt  # the tar member's extension; npy: pixels uint8 [H, W, C]
    height: int  # of the stored image, pixels
    width: int
    offset: list[int] | None = None  # of a tile in its source image: [y, x], pixels
    image_crc32: int | None = None  # of the stored files: a flipped bit in a JPEG often decodes without complaint
    label_crc32: int | None = None
    # From schema 2 on; None in schema 1:
    image_at: int | None = None  # where the stored file's bytes begin in the tar, and how many they are
    image_bytes: int | None = None
    label_at: int | None = None  # likewise; None without a label
    label_bytes: int | None = None
    row_crc32: list[int] | None = None  # of an npy's blocks of rows (`ingest.shards.pixels`), since crops read a part
    classes: list[tuple[int, int, str]] | None = None  # what the label shows (`ingest.shards.areas.from_text`)
    geo: dict[str, Any] | None = None  # of a tile of a georeferenced scene: its CRS and transform


@dataclass(frozen=True)
class Skipped:
    """A source file that was left out, and why."""

    __pydantic_config__ = _STRICT

    file: str
    reason: str


@dataclass(frozen=True)
class ShardRecord:
    """`<name>.json`: everything known of one shard. Totals over samples, so that shards add up to splits."""

    __pydantic_config__ = _STRICT

    name: str  # "train-000000"
    bytes: int  # of the tar
    sha256: str  # of the tar
    class_pixels: list[int]  # per class, over this shard's labels
    ignored_pixels: int
    channel_sum: list[int]  # per channel, of the 8-bit images: mean and std come from these, exactly
    channel_square_sum: list[int]
    samples: list[Sample]
    skipped: list[Skipped] = field(default_factory=list)  # broken ones that were to be in this shard
    unmatched_pixels: int = 0  # of the ignored ones: their color in the mask was too far from every class's
    sum: str = field(default="", compare=False)  # of the file itself (`ingest.shards.sums`); "" in schema 1


@dataclass(frozen=True)
class Shard:
    """A shard as `dataset.json` lists it."""

    __pydantic_config__ = _STRICT

    name: str
    samples: int
    bytes: int
    sha256: str
    record_sha256: str = ""  # of `<name>.json`; "" in schema 1


@dataclass(frozen=True)
class IndexFile:
    """`<split>.index.npz` as `dataset.json` lists it."""

    __pydantic_config__ = _STRICT

    bytes: int
    sha256: str
    directory_sha256: str  # of its table of contents, which holds the sum of every column: quickly checked


@dataclass(frozen=True)
class Split:
    """A named part of the dataset."""

    __pydantic_config__ = _STRICT

    samples: int
    labeled: bool
    shards: list[Shard]
    class_pixels: list[int]
    ignored_pixels: int
    # "min", "median", "max" -> [height, width], each of its own axis, in pixels
    image_size: dict[str, list[int]]
    skipped: list[Skipped] = field(default_factory=list)
    # From schema 2 on; empty in schema 1:
    index: IndexFile | None = None
    class_images: list[int] = field(default_factory=list)  # per class: images that show it
    class_image_pixels: list[int] = field(default_factory=list)  # per class: all pixels of those images
    unmatched_pixels: int = 0  # of the ignored ones: their color in the mask was too far from every class's


@dataclass(frozen=True)
class Manifest:
    """`dataset.json`: the task's facts, the splits, and the command that made them."""

    __pydantic_config__ = _STRICT

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
    pixels: dict[str, Any] | None = None  # what ingest did to raw files (bands, ranges...), for prediction to do alike
    raw_ids: list[int] | None = None  # per class, its value in the source's masks (the least of several); None: none
    edited: bool = False  # the file was changed by hand after ingest, and signed anew (`reindex --edited`)
    sum: str = field(default="", compare=False)  # of the file itself (`ingest.shards.sums`); "" in schema 1

    @property
    def num_classes(self) -> int:
        return len(self.classes)

    def split(self, name: str) -> Split:
        """The split of that name; UserError lists the others."""
        if name not in self.splits:
            raise UserError(f"dataset {self.name!r} has no split {name!r}{nearest(name, self.splits)}")
        return self.splits[name]
