"""Label masks in, mode-L PNGs of train ids out; 255 = ignore. Id maps, palettes, mask normalization."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ingest.errors import UserError
from ingest.pixels.colors import Color, from_colors
from ingest.pixels.masks import Values, read_mask
from ingest.shards import png
from ingest.shards.manifest import IGNORE
from ingest.shards.wording import count


@dataclass(frozen=True)
class LabelMap:
    """From what a mask holds to train ids: `ids` for index masks (value -> train id), `colors` for RGB masks.

    What is in neither is a mistake in the data or in the spec, and stops the ingest.
    """

    ids: Mapping[int, int]
    colors: Mapping[Color, int]
    tolerance: float = 0.0  # how far a color may be from a class's, in RGB values; 0: exact, and strays are an error
    variable: str | None = None  # the matrix of .mat files that hold several

    @property
    def by_color(self) -> bool | None:
        """Whether masks are read as RGB; None, where both `ids` and `colors` are given: as each mask is saved."""
        return None if self.ids and self.colors else bool(self.colors)

    def lut(self) -> NDArray[np.int16]:
        """int16 [65536]: raw value -> train id, -1 where the value is unknown."""
        table = np.full(65536, -1, np.int16)
        for raw, train in self.ids.items():
            table[raw] = train
        return table


@runtime_checkable
class DrawnLabel(Protocol):
    """A label that is drawn from shapes in the worker that converts its image. Picklable and small."""

    @property
    def name(self) -> str:
        """For messages and the shard's record: the annotation file, and the image or object in it."""

    @property
    def size(self) -> int:
        """About its bytes as a PNG, for the planning of shards."""

    @property
    def upright(self) -> bool:
        """Whether it was drawn on the picture as its EXIF tag turns it, which is how annotation tools show it."""

    def ids(self, height: int, width: int) -> NDArray[np.uint8]:
        """Train ids [H, W] for an image of this size, or of the size that the annotation records where that differs:
        the image is then held against it as against a mask's. UserError where a shape is at fault.
        """


@runtime_checkable
class StripLabel(DrawnLabel, Protocol):
    """One that may be too large to be drawn at once."""

    def strips(self, height: int, width: int) -> Iterator[NDArray[np.uint8]]:
        """`ids` in strips of rows from the top down."""


def identity(num_classes: int, ignore: Iterable[int] = ()) -> LabelMap:
    """0..num_classes-1 stay, 255 and the values of `ignore` become 255."""
    ids = {index: index for index in range(num_classes)}
    ids |= dict.fromkeys(ignore, IGNORE) | {IGNORE: IGNORE}
    return LabelMap(ids, {})


def voc_palette(count: int) -> list[Color]:
    """VOC's color map (VOC devkit, VOCcolormap.m): the bits of the index, dealt to R, G, B from the top bit down."""
    palette = []
    for index in range(count):
        rgb = [0, 0, 0]
        for bit in range(8):
            for channel in range(3):
                rgb[channel] |= (index >> (3 * bit + channel) & 1) << (7 - bit)
        palette.append((rgb[0], rgb[1], rgb[2]))
    return palette


@dataclass(frozen=True)
class StoredLabel:
    """A label as it goes into the shard."""

    png: bytes  # mode L, one byte a pixel
    ids: NDArray[np.uint8]  # [H, W]
    pixels: NDArray[np.int64]  # per id, [256]
    unmatched: int = 0  # pixels whose color was too far from every class's, ignored


def normalize(data: bytes, name: str, mapping: LabelMap, classes: Sequence[str]) -> StoredLabel:
    """A mask file -> its ids and their PNG.

    Raises UserError on a broken file, or a value or a color without a class.
    """
    raw = read_mask(data, name, mapping.by_color, mapping.variable)
    ids, unmatched, pixels = map_values(raw, name, mapping, classes)
    return StoredLabel(png.encode(ids), ids, pixels, unmatched)


def drawn(label: DrawnLabel, height: int, width: int) -> StoredLabel:
    """The same from an annotation's shapes."""
    ids = label.ids(height, width)
    return StoredLabel(png.encode(ids), ids, count_values(ids))


def map_values(
    raw: Values, name: str, mapping: LabelMap, classes: Sequence[str]
) -> tuple[NDArray[np.uint8], int, NDArray[np.int64]]:
    """Raw values [H, W] or colors [H, W, 3] -> (train ids uint8 [H, W], unmatched pixels, pixels per id int64 [256]).

    Raises UserError on a value or a color without a class.
    """
    if raw.ndim == 3:
        ids, unmatched = from_colors(raw.astype(np.uint8, copy=False), name, mapping.colors, mapping.tolerance)
        return ids, unmatched, count_values(ids)
    table = mapping.lut()
    raw_counts = count_values(raw)
    present = np.flatnonzero(raw_counts)
    unknown = present[table[present] < 0]
    if unknown.size:
        value = int(unknown[0])
        pixels = count(int(raw_counts[value]), "pixel")
        raise UserError(
            f"{name} holds the value {value} ({pixels}), the {len(classes)} classes use "
            f"{_ranges(key for key, train in mapping.ids.items() if train != IGNORE) or 'none at all'}: "
            "correct the mask, or map the value to a class with `ids`, or list it in `ignore`"
        )
    counts = np.zeros(256, np.int64)
    np.add.at(counts, table[present], raw_counts[present])
    return table.astype(np.uint8)[raw], 0, counts


def count_values(values: Values) -> NDArray[np.int64]:
    """Pixels per value, int64 [256 or more]."""
    if values.dtype == np.uint8:  # Pillow counts bytes several times faster than bincount, which widens them first
        return np.array(Image.fromarray(values).histogram(), np.int64)
    return np.bincount(values.ravel(), minlength=256)


def resize(ids: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Ids [H, W] at another (height, width). Nearest: anything else would invent classes."""
    return np.asarray(Image.fromarray(ids).resize((size[1], size[0]), Image.Resampling.NEAREST))


def _ranges(values: Iterable[int]) -> str:
    """`0..10, 12, 15..18`."""
    runs: list[list[int]] = []
    for value in sorted(values):
        if runs and value == runs[-1][1] + 1:
            runs[-1][1] = value
        else:
            runs.append([value, value])
    return ", ".join(str(low) if low == high else f"{low}..{high}" for low, high in runs)
