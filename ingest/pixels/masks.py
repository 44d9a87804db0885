"""Mask files of any format to raw values: PNG, TIFF, BMP, GIF..., NumPy's .npy, MATLAB's .mat."""

from __future__ import annotations

import io
from typing import cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ingest.errors import UserError
from ingest.pixels.decode import MAX_PIXELS, decode_image, is_tiff
from ingest.pixels.matfile import label_of

Values = NDArray[np.uint8] | NDArray[np.uint16]
_PNG_DEPTH = 24  # offset of the bit depth in a PNG's header
ARRAYS = (".mat", ".npy")


def read_mask(data: bytes, name: str, colored: bool | None, variable: str | None = None) -> Values:
    """A mask's raw values [H, W], uint8 or uint16, or its colors, uint8 [H, W, 3].

    `colored` says that the classes are given by colors: then any image is read as RGB. False: an image must hold
    indices; a gray one that was saved as RGB does. None: as each image is. `variable` names the array of a .mat file
    that holds several.
    """
    suffix = name[name.rfind(".") :].lower()
    if suffix in ARRAYS:
        array = label_of(data, name, variable) if suffix == ".mat" else _npy(data, name)
    elif is_tiff(data) and not _opens(data):
        from ingest.pixels import tiff  # of deep or many-banded TIFFs alone

        array = tiff.read(data, name)
    else:
        image = decode_image(data, name)
        if colored:
            return np.asarray(image.convert("RGB"))
        if image.mode in ("RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "LAB", "HSV"):
            rgb = np.asarray(image.convert("RGB"))
            return rgb if colored is None else _gray(rgb, name)
        return _indices(image, data, name)
    values = whole_numbers(array, name)
    if values.ndim == 3 and values.shape[2] == 3 and values.dtype == np.uint8:
        return values if colored is not False else _gray(values.astype(np.uint8), name)
    if values.ndim != 2:
        raise UserError(f"{name} holds an array of shape {values.shape}: a mask is [height, width], or RGB colors")
    if colored:
        return np.repeat(values.astype(np.uint8)[..., None], 3, 2)
    return values


def whole_numbers(array: NDArray[np.generic], name: str) -> Values:
    """An array of any number type as uint8 or uint16, without loss. UserError where that cannot be."""
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]
    elif array.ndim == 3 and array.shape[0] == 1 and array.shape[2] != 3:  # [1, H, W], as torch has it
        array = array[0]
    if array.dtype == bool:
        return array.astype(np.uint8)
    if array.dtype.kind not in "uif" or not array.size:
        raise UserError(f"{name} holds {array.dtype}: a mask holds one class number a pixel")
    if array.dtype == np.uint8 or array.dtype == np.uint16:
        return cast(Values, array)
    low, high = float(array.min()), float(array.max())
    if not (low >= 0 and high <= 65535):  # also where NaN is
        raise UserError(f"{name} holds values outside 0..65535 ({low:g}..{high:g}): a mask holds class numbers")
    wide = array.astype(np.uint16)
    if array.dtype.kind == "f" and (wide != array).any():
        raise UserError(f"{name} holds fractions: a mask holds one class number a pixel")
    return wide


def _opens(data: bytes) -> bool:
    """Whether Pillow reads this TIFF."""
    try:
        Image.open(io.BytesIO(data)).close()
        return True
    except Image.DecompressionBombError:
        return False
    except Exception:  # whatever is wrong is told by the reader that is asked next
        return False


def _npy(data: bytes, name: str) -> NDArray[np.generic]:
    """A .npy array. Its claimed shape is held against the file's size before memory is taken."""
    try:
        file = io.BytesIO(data)
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(file)
        if dtype.hasobject:
            raise UserError(f"{name} holds Python objects: save a plain array of numbers")
        pixels = int(np.prod([int(side) for side in shape], dtype=object))
        if pixels > 4 * MAX_PIXELS or pixels * dtype.itemsize > len(data):
            raise UserError(f"{name} claims an array of shape {shape}, more than it holds: write the file again")
        return np.load(io.BytesIO(data), allow_pickle=False)
    except UserError:
        raise
    except Exception as error:  # NumPy parses the header as Python literals
        raise UserError(f"{name} is not a readable .npy file ({error}): write it again with numpy.save") from error


def _indices(image: Image.Image, data: bytes, name: str) -> Values:
    """Raw values [H, W] of an image without colors."""
    depth = data[_PNG_DEPTH] if image.format == "PNG" else 8
    if image.mode == "1":
        return np.asarray(image).astype(np.uint8)
    if image.mode in ("LA", "PA"):
        return np.asarray(image)[..., 0]
    if image.mode in ("L", "P"):
        values = np.asarray(image)
        if image.mode == "L" and depth < 8:  # Pillow spreads 2- and 4-bit gray over 0..255
            values = values // (255 // (2**depth - 1))
        return values
    return whole_numbers(np.asarray(image), name)  # 16-bit, 32-bit, float


def _gray(rgb: NDArray[np.uint8], name: str) -> NDArray[np.uint8]:
    """Indices that were saved as RGB: three equal channels."""
    values = rgb[..., 0]
    if (values != rgb[..., 1]).any() or (values != rgb[..., 2]).any():
        raise UserError(
            f"{name} is a color image, but masks are read as indices here: use the index masks, or give each class its "
            "color in the spec, as in `colors: {road: [128, 64, 128]}` (`python -m ingest inspect SRC` finds them)"
        )
    return np.ascontiguousarray(values)
