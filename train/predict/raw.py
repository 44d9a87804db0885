"""From an image file to what the net is shown: by the very recipe that ingest applied to the training images."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from ingest.errors import UserError
from ingest.pixels import raw, recipe, tiff
from ingest.pixels.decode import is_tiff
from ingest.pixels.recipe import PixelRecipe
from ingest.shards.wording import count
from train.checkpoints.state import DatasetFacts
from train.predict import depth

Array = NDArray[np.uint8]
SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp"}
_ORIENTATION = 0x0112  # EXIF tag
_ROWS = 512  # of a scene that are read at once, where all of it is gone through
_CACHE_MB = 128  # of decoded tiles: some rows of a wide scene


@dataclass(frozen=True)
class Reader:
    """Reads files for one net."""

    channels: int
    recipe: PixelRecipe | None
    """None: a checkpoint of before recipes were kept, which can only be shown 8-bit RGB."""

    @staticmethod
    def of(facts: DatasetFacts) -> Reader:
        """For a checkpoint's dataset facts. UserError where they cannot be read."""
        pixels = facts.get("pixels")
        if not pixels:
            if facts["channels"] != 3:
                raise UserError(
                    f"the checkpoint takes {facts['channels']} channels and does not say which bands of a file they "
                    "are: ingest the dataset again and train on it, or predict on shards"
                )
            return Reader(3, None)
        try:
            return Reader(facts["channels"], PixelRecipe.from_dict(pixels))
        except (ValueError, TypeError, AttributeError) as error:
            raise UserError(f"the checkpoint's pixel recipe is damaged ({error}): use another one") from error

    def read(self, path: Path) -> InMemory:
        """A whole file. Photos are turned upright as EXIF says. UserError names the file."""
        data = _bytes(path)
        if self.recipe is None:
            _refuse_deep(data, path)
        plain = self.recipe is None or self.recipe.plain
        if plain and is_tiff(data) and not (facts := tiff.facts_of(data, str(path))).by_pillow:
            _refuse_bands(path, facts)
        pixels, valid = raw.read_pixels(data, str(path), self.recipe or PixelRecipe())
        self.check(pixels.shape[2], str(path))
        pixels = pixels if pixels.flags.writeable else pixels.copy()  # Pillow's memory is read-only, torch minds
        largest = depth.largest_value(data, str(path)) if plain else None
        if not is_tiff(data):
            return InMemory(_upright(pixels, data), valid, largest=largest)
        return InMemory(pixels, valid, found.place if (found := tiff_facts(path)) else None, largest)

    def check(self, channels: int, name: str) -> None:
        """UserError where an image has another number of channels than the net takes."""
        if channels != self.channels:
            raise UserError(f"{name} gives {channels} channels, the net takes {self.channels}: predict on other images")


class Scene(Protocol):
    """An image that is read by region."""

    @property
    def size(self) -> tuple[int, int]: ...

    @property
    def place(self) -> tiff.Place | None: ...

    @property
    def lacks(self) -> bool:
        """Whether there may be pixels without data."""

    def read(self, y: int, x: int, height: int, width: int) -> tuple[Array, NDArray[np.bool_] | None]: ...


@dataclass(frozen=True)
class InMemory:
    """An image that is there whole, uint8 [H, W, C]."""

    pixels: Array
    valid: NDArray[np.bool_] | None = None
    place: tiff.Place | None = None
    largest: int | None = None
    """The file's largest value, where it has 16 bits a value and the net saw pictures of 8."""

    @property
    def size(self) -> tuple[int, int]:
        return self.pixels.shape[0], self.pixels.shape[1]

    @property
    def lacks(self) -> bool:
        return self.valid is not None

    def read(self, y: int, x: int, height: int, width: int) -> tuple[Array, NDArray[np.bool_] | None]:
        part = slice(y, y + height), slice(x, x + width)
        return self.pixels[part], None if self.valid is None else self.valid[part]


@dataclass(frozen=True)
class Raster:
    """A TIFF on disk, of which only the regions asked for are read (rasterio)."""

    path: Path
    facts: tiff.Facts
    recipe: PixelRecipe
    held: Any

    @property
    def size(self) -> tuple[int, int]:
        return self.facts.height, self.facts.width

    @property
    def place(self) -> tiff.Place | None:
        return self.facts.place

    @property
    def lacks(self) -> bool:
        marked = self.facts.nodata is not None or self.recipe.nodata is not None
        return marked or self.facts.dtype.startswith("float")

    def read(self, y: int, x: int, height: int, width: int) -> tuple[Array, NDArray[np.bool_] | None]:
        from rasterio.errors import RasterioError
        from rasterio.windows import Window

        try:
            bands = self.held.read(window=Window(x, y, width, height))
        except (RasterioError, OSError) as error:
            raise UserError(f"{self.path} breaks at row {y} ({error}): fetch the file again") from error
        return recipe.apply(np.moveaxis(bands, 0, 2), str(self.path), self.recipe, self.facts.nodata)

    def reduced(self, height: int, width: int) -> Array:
        """The whole scene at a smaller size, uint8 [height, width, C]: the nearest pixel, no more than that held.

        Read in rows, each once: left to GDAL, every tile would be unpacked once a band.
        """
        from rasterio.errors import RasterioError
        from rasterio.windows import Window

        old, wide = self.size
        found: list[NDArray[Any]] = []
        rows = ((np.arange(height) + 0.5) * old / height).astype(np.intp)
        columns = ((np.arange(width) + 0.5) * wide / width).astype(np.intp)
        for top in range(0, old, _ROWS):
            wanted = rows[(rows >= top) & (rows < top + _ROWS)] - top
            if not len(wanted):
                continue
            try:
                bands = self.held.read(window=Window(0, top, wide, min(_ROWS, old - top)))
            except (RasterioError, OSError) as error:
                raise UserError(f"{self.path} breaks at row {top} ({error}): fetch the file again") from error
            found.append(np.moveaxis(bands[:, wanted[:, None], columns], 0, 2))
        return recipe.apply(np.concatenate(found), str(self.path), self.recipe, self.facts.nodata)[0]


def tiff_facts(path: Path) -> tiff.Facts | None:
    """Of a TIFF its size, bands and place on the map; None for another file. UserError on a broken one."""
    try:
        with open(path, "rb") as file:
            if not is_tiff(file.read(4)):
                return None
        return tiff.facts_at(str(path))
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}): check the path") from error


def by_region(path: Path, reader: Reader, most: int) -> tiff.Facts | None:
    """A TIFF's facts, where it has more than `most` pixels and rasterio can read it by region; None: read it whole.

    UserError names the file where it does not fit the net.
    """
    facts = tiff_facts(path)
    if facts is None or facts.by_pillow or facts.height * facts.width <= most or tiff.rasterio() is None:
        return None
    plain = reader.recipe is None or reader.recipe.plain
    if plain:
        _refuse_bands(path, facts, deep=("uint8",))
    reader.check((reader.recipe or PixelRecipe()).channels, str(path))
    return facts


def _refuse_bands(path: Path, facts: tiff.Facts, deep: Sequence[str] = ("uint8", "uint16")) -> None:
    """UserError for a TIFF that is no picture. deep: the kinds of numbers that a single band may hold."""
    if facts.bands not in (1, 3) or facts.dtype not in (("uint8",) if facts.bands == 3 else deep):
        raise UserError(
            f"{path} has {count(facts.bands, 'band')} of {facts.dtype}, and the net was trained on 8-bit RGB: bring it "
            "to that, or train on such files (`bands` and `range` in the ingest spec)"
        )


@contextmanager
def opened(path: Path, reader: Reader, facts: tiff.Facts) -> Iterator[Raster]:
    """A TIFF, to be read by region. UserError names the file."""
    import rasterio

    with rasterio.Env(GDAL_CACHEMAX=_CACHE_MB):  # else a twentieth of the machine's memory
        try:
            held = rasterio.open(path, driver="GTiff")
        except rasterio.errors.RasterioError as error:
            raise UserError(f"{path} is no readable TIFF ({error}): fetch the file again") from error
        with held:
            yield Raster(path, facts, reader.recipe or PixelRecipe(), held)


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}): check the path") from error


def _refuse_deep(data: bytes, path: Path) -> None:
    """UserError for what is not 8-bit RGB, gray or palette: nothing says how such files became what the net saw."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            mode = image.mode
    except Exception:  # what Pillow does not open gets its own message from the reader
        if not is_tiff(data):
            return
        mode = "more bands or bits than a picture has"
    if mode not in ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr"):
        raise UserError(
            f"{path} is not 8-bit RGB ({mode}), and the checkpoint does not say how ingest brought such files to 8 "
            "bits: ingest the dataset again and train on it, or convert the file as the training images were"
        )


def _upright(pixels: Array, data: bytes) -> Array:
    """Turned as the file's EXIF orientation says."""
    with Image.open(io.BytesIO(data)) as image:
        orientation = image.getexif().get(_ORIENTATION, 1)
    if orientation == 1 or pixels.shape[2] not in (1, 3):
        return pixels
    turned = Image.fromarray(pixels)
    turned.getexif()[_ORIENTATION] = orientation
    return np.array(ImageOps.exif_transpose(turned))
