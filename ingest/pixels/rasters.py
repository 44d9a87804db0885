"""Scenes too large, too deep or with too many bands for a plain image file: read once, in strips, and cut into tiles.

A scene is brought to 8 bits, H x W x C, and laid down as a plain array in a scratch folder; its tiles are then read
from there in any order, each at the cost of its own bytes. No scene is in memory as a whole where strips can be read.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from ingest.errors import UserError
from ingest.pixels import labels, raw, recipe, tiff
from ingest.pixels.decode import MAX_PIXELS
from ingest.pixels.images import channel_sums
from ingest.pixels.labels import DrawnLabel, LabelMap, StripLabel
from ingest.pixels.masks import Values, read_mask, whole_numbers
from ingest.pixels.recipe import PixelRecipe
from ingest.shards import atomic
from ingest.shards.manifest import IGNORE
from ingest.sources.archives import Source

Window = tuple[int, int, int, int]  # y, x, height, width


@dataclass(frozen=True)
class Tile:
    """`--tile HxW+OVERLAP`, in pixels; no `height` means the whole scene."""

    height: int = 0
    width: int = 0
    overlap: int = 0


def windows(height: int, width: int, tile: Tile) -> list[Window]:
    """Tiles that cover a scene; the last of a row or column is moved in, so that all are whole."""
    if not tile.height:
        return [(0, 0, height, width)]
    return [
        (y, x, min(tile.height, height), min(tile.width, width))
        for y in _starts(height, tile.height, tile.overlap)
        for x in _starts(width, tile.width, tile.overlap)
    ]


def _starts(length: int, size: int, overlap: int) -> list[int]:
    last = max(0, length - size)
    return [*range(0, last, size - overlap), last]


def read_size(source: Source) -> tuple[int, int]:
    """(height, width) from the file's head."""
    found = raw.facts(source)
    return found.height, found.width


def prepare_scene(source: Source, pixels: PixelRecipe, path: Path) -> None:
    """Decodes a scene to uint8 [H, W, C] and saves it as .npy at `path`, whole or not at all.

    Where it has pixels without data, an array beside it says which have some (bool [H, W]).
    """
    found = raw.facts(source)
    holes = False
    with (
        _saved(_valid(path), (found.height, found.width), bool) as where,
        _saved(path, (found.height, found.width, pixels.channels), np.uint8) as out,
    ):
        for strip in raw.strips(source, found, pixels):
            eight, valid = recipe.apply(strip, source.name, pixels, found.nodata)
            out.write(eight.tobytes())
            where.write((np.ones(eight.shape[:2], bool) if valid is None else valid).tobytes())
            holes |= valid is not None
    if not holes:
        _valid(path).unlink()


def prepare_label(
    label: Source | DrawnLabel, mapping: LabelMap, classes: Sequence[str], scene: Source, path: Path
) -> int:
    """Brings a scene's mask, or its annotation's shapes, to train ids uint8 [H, W] and saves them as .npy at `path`.

    Returns how many pixels had a color too far from every class's.
    """
    if not isinstance(label, Source):
        with _saved(path, read_size(scene), np.uint8) as out:
            for ids in drawn_strips(label, scene):
                out.write(ids.tobytes())
        return 0
    unmatched = 0
    with _saved(path, read_size(label), np.uint8) as out:
        for strip in mask_strips(label, mapping):
            ids, strays, _ = labels.map_values(strip, label.name, mapping, classes)
            out.write(ids.tobytes())
            unmatched += strays
    return unmatched


def drawn_strips(label: DrawnLabel, scene: Source) -> Iterator[NDArray[np.uint8]]:
    """A scene's label from its annotation's shapes, from the top down. UserError where its size is another."""
    hw = read_size(scene)
    for ids in label.strips(*hw) if isinstance(label, StripLabel) else [label.ids(*hw)]:
        if ids.shape[1] != hw[1] or (not isinstance(label, StripLabel) and ids.shape != hw):
            raise UserError(
                f"{label.name} is of another size than {scene.name}: pair the image with its own annotation"
            )
        yield ids


def mask_strips(label: Source, mapping: LabelMap) -> Iterator[Values]:
    """A mask's raw values from the top down: in strips where it is a large TIFF of one band, else at once."""
    if raw.is_tiff_source(label):
        found = tiff.facts(label)
        if found.bands == 1 and found.height * found.width > MAX_PIXELS // 4:
            yield from (whole_numbers(strip, label.name) for strip in tiff.strips(label, found))
            return
    yield read_mask(label.read(), label.name, mapping.by_color, mapping.variable)


def cut(path: Path, window: Window) -> NDArray[np.uint8]:
    """One tile of a prepared scene or label, uint8 [h, w, ...], to be written to."""
    y, x, height, width = window
    return np.array(np.load(path, mmap_mode="r")[y : y + height, x : x + width])  # of full width it is the file itself


def ignore_holes(ids: NDArray[np.uint8], scene: Path, window: Window) -> NDArray[np.uint8]:
    """A tile's train ids [h, w] with 255 where the prepared scene at `scene` has no data."""
    if _valid(scene).exists():
        ids[~cut(_valid(scene), window).astype(bool)] = IGNORE
    return ids


def encode(pixels: NDArray[np.uint8]) -> bytes:
    """uint8 [H, W, C] -> a .npy file: any number of channels, without loss."""
    out = io.BytesIO()
    np.save(out, pixels, allow_pickle=False)
    return out.getvalue()


def count(pixels: NDArray[np.uint8]) -> tuple[list[int], list[int]]:
    """Exact sums and sums of squares per channel."""
    channels = [np.bincount(pixels[..., channel].ravel(), minlength=256) for channel in range(pixels.shape[2])]
    return channel_sums(np.stack(channels).astype(np.int64))


def _valid(scene: Path) -> Path:
    return scene.with_suffix(".valid.npy")


@contextmanager
def _saved(path: Path, shape: tuple[int, ...], dtype: type) -> Iterator[BinaryIO]:
    """A .npy file whose rows are still to be written, in order; whole at the end, or not there."""
    with atomic.opened(path) as file:
        header = {"descr": np.lib.format.dtype_to_descr(np.dtype(dtype)), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        yield file
