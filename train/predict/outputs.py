"""What is written for an image: mask, overlay, probabilities, outlines."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ingest.errors import UserError
from ingest.pixels import tiff
from ingest.shards import atomic, pictures
from ingest.shards.manifest import IGNORE
from ingest.shards.pictures import Array
from train.checkpoints.state import DatasetFacts
from train.predict import outlines

_MOST_OVERLAY = 40_000_000  # pixels: a viewer would hardly open an overlay of more
_REDUCED = 6_000_000  # pixels of the overlay of an image that has more, or that is read by region
_LONGEST_SIDE = 16_384  # of such an overlay: JPEG ends at 65,535, many viewers before


@dataclass(frozen=True)
class Output:
    """What is asked for, and the facts that it takes."""

    folder: Path
    classes: Sequence[str]
    palette: Sequence[Sequence[int]]
    opacity: float
    """Of the classes over the image; 0: no overlays."""
    probabilities: bool = False
    polygons: str | None = None
    """geojson | coco."""
    raw_ids: Sequence[int] | None = None
    """What is written for each class in masks, where that is not its number."""

    @staticmethod
    def of(facts: DatasetFacts, folder: Path, opacity: float, more: tuple[bool, str | None, str]) -> Output:
        """more: whether probabilities are wanted, the form of polygons, and raw or train ids. UserError where the
        checkpoint's dataset has no raw ids, or more than a mask can hold."""
        probabilities, polygons, ids = more
        raw_ids = facts.get("raw_ids") if ids == "raw" else None
        if ids == "raw" and not raw_ids:
            raise UserError(
                f"--ids raw: the checkpoint does not know the ids of {facts['name']!r}'s own masks (older datasets "
                "and labels that are no index masks have none): use --ids train, or ingest again and train on that"
            )
        if raw_ids and max(raw_ids) > 255:
            raise UserError(f"--ids raw: {facts['name']!r} has ids up to {max(raw_ids)}, a mask holds 0 to 255")
        if polygons == "geojson" and tiff.rasterio() is None:
            raise UserError("--polygons geojson needs rasterio: pip install 'segrail[geo]'")
        return Output(folder, facts["classes"], facts["palette"], opacity, probabilities, polygons, raw_ids)

    @property
    def overlays(self) -> bool:
        return self.opacity > 0


@dataclass(frozen=True)
class Predicted:
    """An image and what was predicted for it."""

    name: Path
    image: Array | None
    """uint8 [h, w, C], of a scene that is read by region every n-th pixel only (`reduced`); None: no overlay wanted."""
    mask: Array
    """Class ids uint8 [H, W], 255 where the image has no data."""
    probabilities: NDArray[np.float16] | None = None
    """[K, H, W]."""
    place: tiff.Place | None = None


def write(found: Predicted, output: Output) -> list[dict[str, Any]]:
    """Writes an image's files; returns its COCO annotations, without ids, where they are wanted. Raises OSError."""
    suffix = ".tif" if found.place else ".png"
    path = _at(output.folder / "masks", found.name, suffix)
    values, colors = _values(output)
    if found.place:
        _geotiff(path, found.mask, (values, colors), found.place)
    else:
        save_mask(path, values[found.mask], colors)
    if found.image is not None and output.overlays:
        image = found.image
        if image.shape[0] * image.shape[1] > _MOST_OVERLAY:
            image = sampled(image, reduced(image.shape[0], image.shape[1]))
        picture = overlay(pictures.rgb(image), sampled(found.mask, (image.shape[0], image.shape[1])), output)
        pictures.save(picture, _at(output.folder / "overlays", found.name, ".jpg"))
    if found.probabilities is not None:
        _save_array(_at(output.folder / "probabilities", found.name, ".npy"), found.probabilities)
    if output.polygons == "geojson":
        assert found.place is not None
        written = outlines.geojson(found.mask, output.classes, found.place)
        atomic.write_json(_at(output.folder / "polygons", found.name, ".geojson"), written, indent=None)
    return outlines.coco(found.mask) if output.polygons == "coco" else []


def reduced(height: int, width: int) -> tuple[int, int]:
    """The height and width of the overlay of a large scene: its shape, at most 6 million pixels."""
    factor = max(1.0, math.sqrt(height * width / _REDUCED), max(height, width) / _LONGEST_SIDE)
    return max(1, int(height / factor)), max(1, int(width / factor))


def sampled(pixels: Array, size: tuple[int, int]) -> Array:
    """[H, W, ...] -> [h, w, ...]: the nearest pixel to the middle of each new one, as GDAL reads a scene reduced."""
    if pixels.shape[:2] == size:
        return pixels
    rows, columns = (
        ((np.arange(new) + 0.5) * old / new).astype(np.intp) for new, old in zip(size, pixels.shape[:2], strict=True)
    )
    return pixels[rows[:, None], columns]


def overlay(image: Array, mask: Array, output: Output) -> Array:
    """Classes laid over an RGB image, and below it a legend of those that it shows."""
    blend = pictures.overlay(image, pictures.colorize(mask, output.palette), output.opacity, mask != IGNORE)
    counts = np.bincount(mask.ravel(), minlength=256)[: len(output.classes)].tolist()
    shown = [c for c, pixels in enumerate(counts) if pixels]
    classes, palette = [output.classes[c] for c in shown], [output.palette[c] for c in shown]
    entries = pictures.class_entries(classes, palette, [counts[c] for c in shown], shares=True)
    return pictures.with_legend(blend, entries)


def save_mask(path: Path, values: Array, colors: Array) -> None:
    """A palette PNG of uint8 [H, W]. colors: uint8 [256, 3]."""
    image = Image.frombytes("P", (values.shape[1], values.shape[0]), np.ascontiguousarray(values).tobytes())
    image.putpalette(colors.tobytes())
    with atomic.opened(path) as file:
        # bits=8: not fewer, as Pillow would for few classes: some readers spread those over 0..255
        image.save(file, "PNG", bits=8)


def _save_array(path: Path, array: NDArray[np.float16]) -> None:
    """As numpy.save, whose own errors of a full disk do not say that it is full."""
    layout = np.lib.format
    with atomic.opened(path) as file:
        layout.write_array_header_1_0(file, layout.header_data_from_array_1_0(array))
        for part in array:
            file.write(np.ascontiguousarray(part).data)


def _values(output: Output) -> tuple[Array, Array]:
    """Class id -> what is written, uint8 [256]; and the colors of what is written, uint8 [256, 3]."""
    values = np.arange(256, dtype=np.uint8)
    if output.raw_ids:
        values[: len(output.raw_ids)] = output.raw_ids
    colors = np.zeros((256, 3), np.uint8)
    colors[IGNORE] = pictures.IGNORED
    colors[values[: len(output.palette)]] = output.palette
    return values, colors


def _geotiff(path: Path, mask: Array, tables: tuple[Array, Array], place: tiff.Place) -> None:
    """Tiled and deflated, with its place on the map, a color table, and 255 for no data."""
    import rasterio
    from rasterio.transform import Affine

    values, colors = tables
    profile = {
        "driver": "GTiff",
        "dtype": "uint8",
        "count": 1,
        "height": mask.shape[0],
        "width": mask.shape[1],
        "crs": place.crs,
        "transform": Affine(*place.transform),
        "nodata": IGNORE,
        "compress": "deflate",
        "tiled": True,
        "blockxsize": 512,
        "blockysize": 512,
        "bigtiff": "IF_SAFER",
    }

    def bands() -> Iterator[tuple[Any, Array]]:
        for row in range(0, mask.shape[0], 512):
            rows = values[mask[row : row + 512]]
            yield rasterio.windows.Window(0, row, mask.shape[1], len(rows)), rows

    try:
        with atomic.replacing(path) as partial:
            with rasterio.open(partial, "w", **profile) as file:
                for window, rows in bands():
                    file.write(rows, 1, window=window)
                file.write_colormap(1, {value: (*map(int, color), 255) for value, color in enumerate(colors)})
            # What GDAL writes when it closes a file may be lost without an error, on a disk that is full.
            with rasterio.open(partial, driver="GTiff") as file:
                if not all(np.array_equal(file.read(1, window=window), rows) for window, rows in bands()):
                    raise UserError(f"{path} could not be written (it reads back differently): see to the disk")
    except rasterio.errors.RasterioError as error:  # GDAL does not say why
        why = str(error.__cause__ or error).splitlines()[0]
        raise UserError(f"{path} could not be written ({why}): see that the disk has room") from error


def _at(folder: Path, name: Path, suffix: str) -> Path:
    path = folder / name.with_name(name.name + suffix)
    path.parent.mkdir(parents=True, exist_ok=True)
    return path
