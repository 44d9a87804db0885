"""Scenes too large, too deep or with too many bands for a plain image file: read whole once, cut into tiles.

A scene is brought to 8 bits, H x W x C, and laid down as a plain array in a scratch folder; its tiles are then read
from there in any order, each at the cost of its own bytes.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ingest.errors import UserError
from ingest.pixels import labels
from ingest.pixels.images import channel_sums, to_rgb
from ingest.pixels.labels import LabelMap, decode_image
from ingest.sources.archives import Source

Window = tuple[int, int, int, int]  # y, x, height, width


@dataclass(frozen=True)
class Bands:
    """Which bands of a scene become channels, and which raw range becomes 0..255."""

    choice: tuple[int, ...] = ()  # 1-based, as GIS tools count; empty: the 3 of an RGB file
    ranges: tuple[tuple[float, float], ...] = ()  # a channel, or one for all; empty: 8 bits as they are

    @property
    def channels(self) -> int:
        return len(self.choice) or 3


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
    data = source.read()
    if _is_tiff(data):
        array_shape = _tiff_shape(data, source.name)
        return array_shape[0], array_shape[1]
    try:
        with Image.open(io.BytesIO(data)) as image:
            return image.height, image.width
    except Exception as error:
        raise UserError(f"{source.name} is not a readable image ({error}): fetch the file again") from error


def prepare_scene(source: Source, bands: Bands, path: Path) -> None:
    """Decodes a scene to uint8 [H, W, C] and saves it as .npy at `path`, whole or not at all."""
    save(to_8bit(_read(source), source.name, bands), path)


def prepare_label(source: Source, mapping: LabelMap, classes: Sequence[str], path: Path) -> None:
    """Decodes a scene's mask to train ids, uint8 [H, W], and saves it as .npy at `path`."""
    data = source.read()
    if _is_tiff(data) and not _opens_in_pillow(data):
        raw = _tiff(data, source.name)
        if raw.ndim != 2:
            raise UserError(f"{source.name} has {raw.shape[2]} bands: a mask has one, or is an RGB image of colours")
        out = io.BytesIO()
        Image.fromarray(raw.astype(np.uint16)).save(out, "PNG")
        data = out.getvalue()
    save(labels.normalise(data, source.name, mapping, classes)[1], path)


def to_8bit(scene: NDArray[np.generic], name: str, bands: Bands) -> NDArray[np.uint8]:
    """[H, W] or [H, W, bands] of any depth -> uint8 [H, W, C]. Raises UserError where the spec has to say more."""
    scene = scene[..., None] if scene.ndim == 2 else scene
    if bands.choice:
        if max(bands.choice) > scene.shape[2]:
            raise UserError(f"{name} has {scene.shape[2]} bands, the spec asks for band {max(bands.choice)}")
        scene = scene[..., [band - 1 for band in bands.choice]]
    elif scene.shape[2] == 1:
        scene = np.repeat(scene, 3, axis=2)
    elif scene.shape[2] != 3:
        raise UserError(f"{name} has {scene.shape[2]} bands: choose with `bands: [1, 2, 3, ...]` in the spec")
    if not bands.ranges:
        if scene.dtype != np.uint8:
            raise UserError(
                f"{name} holds {scene.dtype}: say what becomes 0..255 with `range: [low, high]` in the spec"
            )
        return np.ascontiguousarray(scene)
    out = np.empty(scene.shape, np.uint8)
    for channel in range(scene.shape[2]):
        low, high = bands.ranges[channel if len(bands.ranges) > 1 else 0]
        scaled = (scene[..., channel].astype(np.float32) - low) * np.float32(255 / (high - low))
        out[..., channel] = np.clip(np.rint(scaled), 0, 255)
    return out


def cut(path: Path, window: Window) -> NDArray[np.uint8]:
    """One tile of a prepared scene or label, uint8 [h, w, ...]."""
    y, x, height, width = window
    return np.ascontiguousarray(np.load(path, mmap_mode="r")[y : y + height, x : x + width])


def encode(pixels: NDArray[np.uint8]) -> bytes:
    """uint8 [H, W, C] -> a .npy file: any number of channels, without loss."""
    out = io.BytesIO()
    np.save(out, pixels, allow_pickle=False)
    return out.getvalue()


def count(pixels: NDArray[np.uint8]) -> tuple[list[int], list[int]]:
    """Exact sums and sums of squares per channel."""
    channels = [np.bincount(pixels[..., channel].ravel(), minlength=256) for channel in range(pixels.shape[2])]
    return channel_sums(np.stack(channels).astype(np.int64))


def _read(source: Source) -> NDArray[np.generic]:
    data = source.read()
    if _is_tiff(data):
        return _tiff(data, source.name)
    return np.asarray(to_rgb(decode_image(data, source.name), source.name))


def _is_tiff(data: bytes) -> bool:
    return data[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # the last two: BigTIFF


def _opens_in_pillow(data: bytes) -> bool:
    try:
        Image.open(io.BytesIO(data)).close()
        return True
    except Exception:
        return False


def _tiff_shape(data: bytes, name: str) -> tuple[int, ...]:
    import tifffile  # not needed for any other dataset

    try:
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            page = file.pages[0]
            return (page.imagelength, page.imagewidth)
    except Exception as error:
        raise UserError(f"{name} is not a readable TIFF ({error}): fetch the file again") from error


def _tiff(data: bytes, name: str) -> NDArray[np.generic]:
    """[H, W] or [H, W, bands]: planes of a planar file or of separate pages become bands."""
    import tifffile

    try:
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            height, width = file.pages[0].imagelength, file.pages[0].imagewidth
            array = np.asarray(file.asarray())
    except Exception as error:
        hint = "pip install imagecodecs" if "imagecodecs" in str(error) else "fetch the file again"
        raise UserError(f"{name} is not a readable TIFF ({error}): {hint}") from error
    if array.ndim == 3 and array.shape[1:] == (height, width):
        array = np.moveaxis(array, 0, 2)
    if array.ndim not in (2, 3) or array.shape[:2] != (height, width):
        raise UserError(f"{name} holds an array of shape {array.shape}: a scene is one image of {height}x{width}")
    return array


def save(array: NDArray[np.uint8], path: Path) -> None:
    """A plain .npy at `path`, whole or not at all."""
    partial = path.with_suffix(".partial")
    try:
        with open(partial, "wb") as file:
            np.save(file, array, allow_pickle=False)
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
