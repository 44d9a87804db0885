"""Label masks in, mode-L PNGs of train ids out; 255 = ignore. Id maps, palettes, mask normalisation."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ingest.errors import UserError
from ingest.pixels.matfile import label_of
from ingest.shards import png
from ingest.shards.manifest import IGNORE

Color = tuple[int, int, int]
Raw = NDArray[np.uint8] | NDArray[np.uint16]
_PNG_DEPTH = 24  # offset of the bit depth in a PNG's header


@dataclass(frozen=True)
class LabelMap:
    """From what a mask holds to train ids: `ids` for index masks (value -> train id), `colors` for RGB masks.

    What is in neither is a mistake in the data or in the spec, and stops the ingest.
    """

    ids: Mapping[int, int]
    colors: Mapping[Color, int]

    def lut(self) -> NDArray[np.int16]:
        """int16 [65536]: raw value -> train id, -1 where the value is unknown."""
        table = np.full(65536, -1, np.int16)
        for raw, train in self.ids.items():
            table[raw] = train
        return table


class DrawnLabel(Protocol):
    """A label that is drawn from shapes in the worker that converts its image. Picklable and small."""

    @property
    def name(self) -> str:
        """For messages and the shard's record: the annotation file, and the image or object in it."""

    @property
    def size(self) -> int:
        """About its bytes as a PNG, for the planning of shards."""

    def ids(self, height: int, width: int) -> NDArray[np.uint8]:
        """Train ids [H, W] for an image of this size, or of the size that the annotation records where that differs:
        the image is then held against it as against a mask's. UserError where a shape is at fault.
        """


def identity(num_classes: int, ignore: Iterable[int] = ()) -> LabelMap:
    """0..num_classes-1 stay, 255 and the values of `ignore` become 255."""
    ids = {index: index for index in range(num_classes)}
    ids |= dict.fromkeys(ignore, IGNORE) | {IGNORE: IGNORE}
    return LabelMap(ids, {})


def voc_palette(count: int) -> list[Color]:
    """VOC's colour map (VOC devkit, VOCcolormap.m): the bits of the index, dealt to R, G, B from the top bit down."""
    palette = []
    for index in range(count):
        rgb = [0, 0, 0]
        for bit in range(8):
            for channel in range(3):
                rgb[channel] |= (index >> (3 * bit + channel) & 1) << (7 - bit)
        palette.append((rgb[0], rgb[1], rgb[2]))
    return palette


def normalise(
    data: bytes, name: str, mapping: LabelMap, classes: Sequence[str]
) -> tuple[bytes, NDArray[np.uint8], NDArray[np.int64]]:
    """A mask file -> (its mode-L PNG, ids uint8 [H, W], pixels per id int64 [256]).

    Raises UserError on a broken file, or a value or a colour without a class.
    """
    image = None if name.endswith(".mat") else decode_image(data, name)
    if image is not None and image.mode in ("RGB", "RGBA"):
        ids = _from_colors(image, name, mapping)
        counts = count_values(ids)
    else:
        raw = label_of(data, name) if image is None else _indices(image, data, name)
        table = mapping.lut()
        raw_counts = count_values(raw)
        present = np.flatnonzero(raw_counts)
        unknown = present[table[present] < 0]
        if unknown.size:
            value = int(unknown[0])
            count = int((raw == value).sum())
            raise UserError(
                f"{name} holds the value {value} ({count} pixels), the {len(classes)} classes use "
                f"{_ranges(key for key, train in mapping.ids.items() if train != IGNORE)}: "
                "correct the mask, or map the value to a class or to ignore"
            )
        ids = table.astype(np.uint8)[raw]
        counts = np.zeros(256, np.int64)
        np.add.at(counts, table[present], raw_counts[present])
    return png.encode(ids), ids, counts


def count_values(values: Raw) -> NDArray[np.int64]:
    """Pixels per value, int64 [256 or more]."""
    if values.dtype == np.uint8:  # Pillow counts bytes several times faster than bincount, which widens them first
        return np.array(Image.fromarray(values).histogram(), np.int64)
    return np.bincount(values.ravel(), minlength=256)


def resize(ids: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Ids [H, W] at another (height, width). Nearest: anything else would invent classes."""
    return np.asarray(Image.fromarray(ids).resize((size[1], size[0]), Image.Resampling.NEAREST))


def decode_image(data: bytes, name: str) -> Image.Image:
    """A fully decoded image; UserError names the broken file."""
    try:
        image = Image.open(io.BytesIO(data))
        image.load()
        return image
    except Image.DecompressionBombError as error:
        raise UserError(f"{name} is too large for one sample ({error}): cut it into tiles") from error
    except Exception as error:  # Pillow raises OSError, SyntaxError, ValueError, struct.error... by kind of damage
        reason = "not an image" if "cannot identify" in str(error) else str(error) or type(error).__name__
        raise UserError(f"{name} cannot be decoded ({reason}): fetch the file again or remove it") from error


def _indices(image: Image.Image, data: bytes, name: str) -> Raw:
    """Raw values [H, W]."""
    depth = data[_PNG_DEPTH] if image.format == "PNG" else 8
    if image.mode == "1":
        return np.asarray(image).astype(np.uint8)
    if image.mode in ("L", "P"):
        values = np.asarray(image)
        if image.mode == "L" and depth < 8:  # Pillow spreads 2- and 4-bit grey over 0..255
            values = values // (255 // (2**depth - 1))
        return values
    if image.mode in ("I;16", "I;16B", "I;16L", "I"):
        wide = np.asarray(image)
        if wide.min() < 0 or wide.max() > 65535:
            raise UserError(f"{name} holds values outside 0..65535: a mask holds one class number a pixel")
        return wide.astype(np.uint16)
    raise UserError(f"{name} has mode {image.mode}: a mask is an index image (L, P, 1, 16-bit) or RGB colours")


def _from_colors(image: Image.Image, name: str, mapping: LabelMap) -> NDArray[np.uint8]:
    """RGB colours -> train ids, uint8 [H, W]."""
    if not mapping.colors:
        raise UserError(f"{name} is a colour image, this dataset's masks are indices: use the index masks instead")
    rgb = np.asarray(image.convert("RGB")).astype(np.uint32)
    code = (rgb[..., 0] << 16) | (rgb[..., 1] << 8) | rgb[..., 2]
    known = np.array(sorted((r << 16) | (g << 8) | b for r, g, b in mapping.colors), np.uint32)
    trains = np.array([mapping.colors[(c >> 16, c >> 8 & 255, c & 255)] for c in known.tolist()], np.uint8)
    slot = np.minimum(np.searchsorted(known, code), len(known) - 1)
    missed = known[slot] != code
    if missed.any():
        color = [int(value) for value in rgb[missed][0]]
        raise UserError(
            f"{name} holds the colour {color} ({int(missed.sum())} pixels) that no class has: "
            "add it to a class or to ignore"
        )
    return trains[slot]


def _ranges(values: Iterable[int]) -> str:
    """`0..10, 12, 15..18`."""
    runs: list[list[int]] = []
    for value in sorted(values):
        if runs and value == runs[-1][1] + 1:
            runs[-1][1] = value
        else:
            runs.append([value, value])
    return ", ".join(str(low) if low == high else f"{low}..{high}" for low, high in runs)
