"""One file looked at: a mask of values, a mask of colors, or a picture."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ingest.errors import UserError
from ingest.pixels import raw, tiff
from ingest.pixels.decode import is_tiff
from ingest.pixels.labels import count_values
from ingest.pixels.masks import ARRAYS, read_mask
from ingest.sources.archives import Source

_MOST_VALUES = 64  # that an index mask holds; a gray picture holds some two hundred
_MOST_COLORS = 32  # whose share tells a mask of colors, with soft edges or not, from a picture
_COVERED = 0.9
_LARGE = 64 << 20  # bytes: larger files are scenes, and are not read for a guess


@dataclass(frozen=True)
class Look:
    """What a file shows."""

    kind: str  # "index", "color", "soft" (gray levels about black and white), "picture"
    values: dict[int, int]  # of an index mask: value -> pixels
    colors: dict[int, int]  # of a color mask: 0xRRGGBB -> pixels, its commonest
    exact: bool = True  # whether these are all its colors
    palette: tuple[tuple[int, int, int], ...] = ()  # of a palette image
    bands: int = 0  # of a picture
    dtype: str = "uint8"


def look(source: Source) -> Look | None:
    """None where the file cannot be read."""
    if source.size > _LARGE:
        return _head(source)
    try:
        data = source.read()
        name = source.name
        if is_tiff(data):
            found = tiff.facts_of(data, name)
            if not found.by_pillow and found.bands not in (1, 3):  # Pillow would show three of four
                return Look("picture", {}, {}, bands=found.bands, dtype=found.dtype)
        pixels = read_mask(data, name, colored=None)
    except UserError:
        return _head(source)
    if pixels.ndim == 2:
        return _of_values(pixels, data, name)
    return _of_colors(pixels, name)


def _head(source: Source) -> Look | None:
    """Of what is no mask: how many bands of which type."""
    if source.name.lower().endswith(ARRAYS):
        return None
    try:
        found = raw.facts(source)
    except UserError:
        return None
    return Look("picture", {}, {}, bands=found.bands, dtype=found.dtype)


def _of_values(pixels: NDArray[np.uint8] | NDArray[np.uint16], data: bytes, name: str) -> Look:
    counts = count_values(pixels)
    values = {int(value): int(counts[value]) for value in np.flatnonzero(counts)}
    total = pixels.size
    ends = sum(count for value, count in values.items() if value <= 16 or 239 <= value <= 255)
    if len(values) <= _MOST_VALUES:
        if len(values) > 2 and ends > 0.98 * total and max(values) > 239 and max(values) <= 255 and min(values) <= 16:
            odd = [value for value in values if 16 < value < 239]
            if len(odd) > 4 or name.lower().endswith((".jpg", ".jpeg")):
                return Look("soft", values, {})
        return Look("index", values, {}, palette=_palette(data, max(values)))
    if ends > 0.95 * total and pixels.dtype == np.uint8:
        return Look("soft", values, {})
    return Look("picture", {}, {}, bands=1, dtype=str(pixels.dtype))


def _palette(data: bytes, largest: int) -> tuple[tuple[int, int, int], ...]:
    import io

    try:
        with Image.open(io.BytesIO(data)) as image:
            if image.mode != "P":
                return ()
            flat = image.getpalette() or []
    except Exception:  # of .npy and .mat files, and TIFFs that Pillow does not open
        return ()
    return tuple((flat[at], flat[at + 1], flat[at + 2]) for at in range(0, min(len(flat), 3 * largest + 3), 3))


def _of_colors(rgb: NDArray[np.uint8] | NDArray[np.uint16], name: str) -> Look:
    wide = rgb.astype(np.uint32)
    codes, counts = np.unique((wide[..., 0] << 16) | (wide[..., 1] << 8) | wide[..., 2], return_counts=True)
    order = np.argsort(-counts, kind="stable")
    top = order[:_MOST_COLORS]
    if counts[top].sum() < _COVERED * counts.sum():
        if name.lower().endswith((".jpg", ".jpeg")) and _flat(rgb):
            return Look("color", {}, _rounded(rgb), exact=False)
        return Look("picture", {}, {}, bands=3)
    few = len(codes) <= 256
    chosen = order if few else top
    return Look("color", {}, {int(codes[at]): int(counts[at]) for at in chosen}, exact=few)


def _flat(rgb: NDArray[np.uint8] | NDArray[np.uint16]) -> bool:
    """Whether neighbors are nearly equal almost everywhere, as in a mask that was saved as JPEG."""
    across = np.abs(np.diff(rgb.astype(np.int16), axis=1)).max(2)
    return bool((across <= 6).mean() > 0.93) and len(_rounded(rgb)) <= _MOST_COLORS


def _rounded(rgb: NDArray[np.uint8] | NDArray[np.uint16]) -> dict[int, int]:
    """The colors of a compressed mask: the commonest exact color of each cell of the color cube that holds some."""
    wide = rgb.reshape(-1, 3).astype(np.uint32)
    exact = (wide[:, 0] << 16) | (wide[:, 1] << 8) | wide[:, 2]
    cells = (wide[:, 0] + 16 >> 5 << 10) | (wide[:, 1] + 16 >> 5 << 5) | (wide[:, 2] + 16 >> 5)
    found: dict[int, int] = {}
    for cell, count in zip(*np.unique(cells, return_counts=True), strict=True):
        if count >= 0.005 * len(cells):
            codes, counts = np.unique(exact[cells == cell], return_counts=True)
            found[int(codes[counts.argmax()])] = int(count)
    return found
