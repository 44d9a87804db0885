"""TIFFs of any depth and number of bands: their facts, whole or in strips of rows, and where they lie on the map.

What a file claims is held against its size and its own table of tiles before memory is taken: a few bytes can claim
a picture of terabytes, or hold a tile that unpacks to gigabytes.

rasterio (the `geo` extra) reads strips of any file, and CRS and transform; without it tifffile reads files whole.
"""

from __future__ import annotations

import io
import logging
import os
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ingest.errors import UserError
from ingest.sources.archives import Source

for _library in ("tifffile", "rasterio"):  # they log what is wrong with a file, which we tell in one line
    logging.getLogger(_library).addHandler(logging.NullHandler())

_RATIO = 5000  # pixels' bytes a byte of file: more than deflate, LZW and JPEG reach, and than empty tiles of 256 x 256
_WHOLE = 2 << 30  # bytes: the most that is decoded at once
_DEFLATE = (8, 32946)
_DEFLATE_RATIO = 1032  # the most that deflate packs
_TRUSTED = 64 << 20  # bytes that a tile may unpack to unseen
_PICTURES = (3, 5, 8)  # photometric interpretations: palette, CMYK, CIELAB
_STRIP = 16 << 20  # bytes of a strip of rows
# GDAL keeps the tiles that it read in a twentieth of the machine's memory, for readers that come back; strips do not.
os.environ.setdefault("GDAL_CACHEMAX", "64")  # MB


@dataclass(frozen=True)
class Place:
    """Where a scene, or a tile of one, lies on the map."""

    crs: str  # "EPSG:32632", or WKT
    transform: tuple[float, float, float, float, float, float]  # pixel -> map, as rasterio's Affine: a, b, c, d, e, f

    def as_dict(self) -> dict[str, Any]:
        """For a shard's record."""
        return {"crs": self.crs, "transform": list(self.transform)}

    @property
    def brief(self) -> str:
        """For messages: the system, the first pixel's corner and a pixel's size."""
        a, b, c, d, e, f = self.transform
        return f"{self.crs[:30]} at {c:.10g}, {f:.10g}, pixels of {abs(a) + abs(b):.6g} x {abs(d) + abs(e):.6g}"

    def same_as(self, other: Place) -> bool:
        """Whether two grids agree to a hundredth of a pixel at their origin, and in their pixels."""
        size = max(abs(value) for value in (self.transform[0], self.transform[1], self.transform[3], self.transform[4]))
        return self.crs == other.crs and all(
            abs(one - two) <= (0.01 if index in (2, 5) else 1e-6) * size
            for index, (one, two) in enumerate(zip(self.transform, other.transform, strict=True))
        )

    def shifted(self, y: int, x: int) -> Place:
        """Of the tile whose first pixel is (y, x)."""
        a, b, c, d, e, f = self.transform
        return Place(self.crs, (a, b, c + a * x + b * y, d, e, f + d * x + e * y))


@dataclass(frozen=True)
class Facts:
    """What a TIFF says about itself, checked against its size."""

    height: int
    width: int
    bands: int
    dtype: str
    nodata: float | None = None
    place: Place | None = None
    by_pillow: bool = False  # palettes, CMYK, 1 bit: pictures, not bands of numbers


def facts_of(data: bytes, name: str) -> Facts:
    """The same from the file's bytes, without its place."""
    return _facts(io.BytesIO(data), len(data), name, None)


def facts(source: Source) -> Facts:
    """From the file's head. UserError on a broken file, or one that claims more than it can hold."""
    if source.loose:
        with _open(source) as file:
            return _facts(file, source.size, source.name, source.path)
    data = source.read()
    return _facts(io.BytesIO(data), len(data), source.name, data)


def facts_at(path: str) -> Facts:
    """The same of a file on disk."""
    try:
        return facts(Source(path, path, os.path.getsize(path)))
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}): check the path") from error


def read(data: bytes, name: str) -> NDArray[np.generic]:
    """A whole TIFF, [H, W] or [H, W, bands]: planes of a planar file or of separate pages become bands."""
    found = _facts(io.BytesIO(data), len(data), name, None, tiles=True)
    size = found.height * found.width * found.bands * np.dtype(found.dtype).itemsize
    if size > _WHOLE:
        raise UserError(
            f"{name} is {found.width}x{found.height} pixels of {found.bands} bands: {size:,} bytes, the limit for "
            f"reading it at once is {_WHOLE:,}: pip install 'segrail[geo]' reads it in strips, or cut it into pieces"
        )
    return _whole(data, name, found)


def strips(source: Source, found: Facts, most: int | None = None) -> Iterator[NDArray[np.generic]]:
    """A scene's rows from the top down, arrays [h, W, bands] of some 16 MB; of `most` that many, spread evenly."""
    rows = max(1, _STRIP // max(1, found.width * found.bands * np.dtype(found.dtype).itemsize))
    if rasterio() is None or _pages(source) > 1:
        whole = read(source.read(), source.name)
        whole = whole[..., None] if whole.ndim == 2 else whole
        yield from (whole[start : start + rows] for start in range(0, found.height, rows))
        return
    starts = range(0, found.height, rows)
    if most is not None and len(starts) > most:
        starts = range(0, found.height, rows * -(-len(starts) // most))
    from rasterio.windows import Window

    try:
        with _opened(source.path if source.loose else source.read()) as held:
            for start in starts:
                window = Window(0, start, found.width, min(rows, found.height - start))
                yield np.moveaxis(held.read(window=window), 0, 2)
    except Exception as error:  # GDAL's errors, by kind of damage
        raise UserError(f"{source.name} is not a readable TIFF ({error}): fetch the file again") from error


def rasterio() -> Any:
    """The module, or None where the `geo` extra is not installed."""
    try:
        import rasterio as module

        return module
    except ImportError:
        return None


def _open(source: Source) -> Any:
    try:
        return open(source.path, "rb")
    except OSError as error:
        raise UserError(f"{source.name} cannot be read ({error.strerror}): check {source.path}") from error


def _opened(path_or_data: str | bytes) -> Any:
    """A rasterio dataset. Only as a TIFF: other drivers read files that a file names."""
    import warnings

    import rasterio
    from rasterio.errors import NotGeoreferencedWarning
    from rasterio.io import MemoryFile

    warnings.filterwarnings("ignore", category=NotGeoreferencedWarning)  # a scene without a place is one without
    if isinstance(path_or_data, str):
        return rasterio.open(path_or_data, driver="GTiff")
    return MemoryFile(path_or_data).open(driver="GTiff")


def _pages(source: Source) -> int:
    import tifffile

    with _open(source) if source.loose else io.BytesIO(source.read()) as file, tifffile.TiffFile(file) as held:
        return len(held.series[0].pages)


def _facts(file: Any, size: int, name: str, path_or_data: str | bytes | None, tiles: bool = False) -> Facts:
    import tifffile  # of deep and many-banded files alone

    try:
        with tifffile.TiffFile(file) as held:
            series = held.series[0]
            page: Any = held.pages[0]
            shape, dtype = tuple(series.shape), series.dtype
            tag = page.tags.get(42113)  # GDAL_NODATA, as text
            nodata = None if tag is None else _number(str(tag.value))
            picture = int(page.photometric) in _PICTURES or page.bitspersample == 1
            _check_claims(series, page, size, name)
            if tiles:  # tifffile unpacks whatever a tile holds, GDAL no more than a tile has
                _check_tiles(held, series, name)
    except UserError:
        raise
    except Exception as error:
        raise _broken(error, name) from error
    height, width = page.imagelength, page.imagewidth
    bands = int(np.prod([int(side) for side in shape], dtype=object)) // max(1, height * width)
    if dtype is None or np.dtype(dtype).kind not in "uifb" or len(shape) not in (2, 3) or height * width < 1:
        raise UserError(f"{name} holds an array {dtype} of shape {shape}: a scene is one image of numbers")
    place = None
    if path_or_data is not None and (33550 in page.tags or 34264 in page.tags) and rasterio() is not None:
        place = _place(path_or_data, name)
    return Facts(height, width, bands, np.dtype(dtype).name, nodata, place, picture)


def _number(text: str) -> float | None:
    try:
        return float(text.strip("\0 "))
    except ValueError:
        return None


def _check_claims(series: Any, page: Any, size: int, name: str) -> None:
    """UserError where a file of that many bytes cannot hold what it claims."""
    sides = [int(side) for side in series.shape]
    claimed = int(np.prod(sides, dtype=object)) * max(1, int(page.bitspersample)) // 8
    rows, columns = (page.tilelength, page.tilewidth) if page.is_tiled else (page.rowsperstrip, page.imagewidth)
    needed = -(-page.imagelength // max(1, rows)) * -(-page.imagewidth // max(1, columns)) * max(1, page.imagedepth)
    needed *= page.samplesperpixel if page.planarconfig == 2 else 1
    listed = len(page.dataoffsets)
    if claimed > _RATIO * size or (listed != needed and not series.dataoffset):
        kind = "tiles" if page.is_tiled else "strips"
        raise UserError(
            f"{name} claims {page.imagewidth}x{page.imagelength} pixels, {claimed:,} bytes in {needed:,} {kind}, but "
            f"is a file of {size:,} bytes that lists {listed:,}: it is damaged; write it again"
        )


def _check_tiles(held: Any, series: Any, name: str) -> None:
    """UserError where a packed tile unpacks to more than a tile has."""
    for page in series.pages:
        tile = page.keyframe if hasattr(page, "keyframe") else page
        rows, columns = (tile.tilelength, tile.tilewidth) if tile.is_tiled else (tile.rowsperstrip, tile.imagewidth)
        samples = 1 if tile.planarconfig == 2 else tile.samplesperpixel
        most = min(rows, max(tile.imagelength, rows if tile.is_tiled else 0)) * columns * samples
        most = most * max(8, tile.bitspersample) // 8
        for offset, count in zip(page.dataoffsets, page.databytecounts, strict=False):
            if tile.compression != 1 and count > 2 * most + 65536:
                raise UserError(f"{name} holds a tile of {count:,} packed bytes for {most:,} plain ones: it is damaged")
            if tile.compression in _DEFLATE and count * _DEFLATE_RATIO > max(_TRUSTED, 2 * most):
                held.filehandle.seek(offset)
                if len(zlib.decompressobj().decompress(held.filehandle.read(count), most + 1)) > most:
                    raise UserError(f"{name} holds a tile that unpacks to over {most:,} bytes: it is damaged")


def _place(path_or_data: str | bytes, name: str) -> Place | None:
    try:
        with _opened(path_or_data) as held:
            if held.crs is None or held.transform.is_identity:
                return None
            code = held.crs.to_epsg()
            return Place(f"EPSG:{code}" if code else held.crs.to_wkt(), tuple(held.transform)[:6])
    except Exception as error:
        raise _broken(error, name) from error


def _whole(data: bytes, name: str, found: Facts) -> NDArray[np.generic]:
    import tifffile

    try:
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            array = np.asarray(file.asarray(maxworkers=1))
    except Exception as error:
        raise _broken(error, name) from error
    if array.ndim == 3 and array.shape[1:] == (found.height, found.width):
        array = np.moveaxis(array, 0, 2)
    if array.ndim not in (2, 3) or array.shape[:2] != (found.height, found.width):
        raise UserError(
            f"{name} holds an array of shape {array.shape}: a scene is one image of {found.height}x{found.width}"
        )
    return array


def _broken(error: Exception, name: str) -> UserError:
    hint = "pip install 'segrail[tiff]'" if "imagecodecs" in str(error) else "fetch the file again"
    return UserError(f"{name} is not a readable TIFF ({str(error) or type(error).__name__}): {hint}")
