"""Raw pixels of any image file, and `read_pixels`: the one way from a raw file to the pixels that a net is shown."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ingest.errors import UserError
from ingest.pixels import recipe, tiff
from ingest.pixels.decode import decode_image, image_size, is_tiff
from ingest.pixels.recipe import PixelRecipe, to_rgb
from ingest.sources.archives import Source

_PNG = b"\x89PNG\r\n\x1a\n"


def read_pixels(data: bytes, name: str, pixels: PixelRecipe) -> tuple[NDArray[np.uint8], NDArray[np.bool_] | None]:
    """An image file's bytes -> (uint8 [H, W, C] by the recipe, where there is data [H, W] or None for everywhere).

    What ingest stores of that file without scaling and without loss. The pixels are as they lie in the file: an EXIF
    orientation is not applied. Raises UserError on a broken file or one that the recipe does not fit.
    """
    if pixels.plain:
        return np.asarray(to_rgb(picture(data, name), name)), None
    nodata = tiff.facts_of(data, name).nodata if is_tiff(data) else None
    return recipe.apply(raw_pixels(data, name), name, pixels, nodata)


def raw_pixels(data: bytes, name: str) -> NDArray[np.generic]:
    """A file's own numbers, [H, W] or [H, W, bands]: of TIFFs of any kind, of other files 8 or 16 bits."""
    if is_tiff(data) and not tiff.facts_of(data, name).by_pillow:
        return tiff.read(data, name)
    image = decode_image(data, name)
    if is_deep_png(data) and not image.mode.startswith("I"):  # Pillow keeps the high byte alone of 16-bit RGB
        wide = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
        if wide is None:
            raise UserError(f"{name} cannot be decoded: fetch the file again or remove it")
        return wide if wide.ndim == 2 else wide[..., [2, 1, 0, 3][: wide.shape[2]]]
    if image.mode in ("L", "RGB", "RGBA", "F") or image.mode.startswith("I"):
        return np.asarray(image)
    return np.asarray(to_rgb(image, name))


def is_deep_png(data: bytes) -> bool:
    """Whether it is a PNG of 16 bits a sample."""
    return data[:8] == _PNG and data[24:25] == b"\x10"


def picture(data: bytes, name: str) -> Image.Image:
    """A picture that needs no recipe, decoded. UserError where it does need one: more bands than a picture has."""
    if is_tiff(data):
        found = tiff.facts_of(data, name)
        if found.by_pillow:
            return decode_image(data, name)
        if found.bands not in (1, 3) or (found.bands == 3 and found.dtype != "uint8"):
            depth = "" if found.dtype == "uint8" else ", and say what becomes 0..255 with `range` or `percentiles`"
            raise UserError(
                f"{name} has {found.bands} bands of {found.dtype}: choose three, or all, with `bands: [1, 2, 3]` in "
                f"the spec{depth}"
            )
        if found.dtype not in ("uint8", "uint16"):
            raise UserError(
                f"{name} holds {found.dtype}: say what becomes 0..255, with `range: [low, high]` in the spec, or "
                "measured by `percentiles: [2, 98]`"
            )
    return decode_image(data, name)


def facts(source: Source) -> tiff.Facts:
    """Size, bands, place on the map..., from the file's head."""
    if is_tiff_source(source):
        return tiff.facts(source)
    height, width = image_size(source.read(), source.name)
    return tiff.Facts(height, width, 3, "uint8")


def strips(
    source: Source, found: tiff.Facts, pixels: PixelRecipe, most: int | None = None
) -> Iterator[NDArray[np.generic]]:
    """A scene's raw pixels from the top down: TIFFs in strips, all else at once. `most`: so many strips, spread."""
    if is_tiff_source(source) and not found.by_pillow:
        yield from tiff.strips(source, found, most)
    elif pixels.plain:
        yield np.asarray(to_rgb(decode_image(source.read(), source.name), source.name))
    else:
        yield raw_pixels(source.read(), source.name)


def is_tiff_source(source: Source) -> bool:
    """By the file's first bytes."""
    if not source.loose:
        return is_tiff(source.read())
    try:
        with open(source.path, "rb") as file:
            return is_tiff(file.read(4))
    except OSError as error:
        raise UserError(f"{source.name} cannot be read ({error.strerror}): check {source.path}") from error
