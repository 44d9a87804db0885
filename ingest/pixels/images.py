"""Images in, storable images out: byte for byte where all decoders agree on them, else converted once, losslessly."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image

from ingest.errors import UserError
from ingest.pixels.decode import ORIENTATION, decode_image
from ingest.pixels.raw import picture
from ingest.pixels.recipe import to_rgb
from ingest.shards import png, rows
from ingest.shards.manifest import ImageExt

_BASELINE = (0xC0, 0xC1)  # JPEG start-of-frame markers: baseline, extended sequential; both Huffman-coded
_NO_LENGTH = (0x01, *range(0xD0, 0xD9))  # JPEG markers that stand alone
# EXIF orientation -> Pillow's operation that sets the picture upright (EXIF 2.3, section 4.6.4)
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_EXTENSIONS: dict[str, ImageExt] = {
    "jpeg": "jpg",
    "raw": "npy",
}  # what `Format.kind` makes of images that are not kept; else png
_PACK = {"png": png.encode, "npy": rows.encode}


@dataclass(frozen=True)
class Stored:
    """An image as it goes into the shard."""

    data: bytes
    ext: ImageExt
    height: int
    width: int
    channel_sum: list[int]  # of the 8-bit RGB values
    channel_square_sum: list[int]
    row_crc32: list[int] | None = None  # of an npy (`ingest.shards.rows`)


@dataclass(frozen=True)
class Format:
    """How images are stored: `keep` as they are where that can be, all as `jpeg` of a quality, all as `png` that is
    read fast (`ingest.shards.png`), or all as `raw` pixels, of which a crop reads the rows it needs
    (`ingest.shards.rows`)."""

    kind: str = "keep"
    quality: int = 0
    max_side: int | None = None  # pixels: larger images are scaled down, labels with them


def normalize(data: bytes, name: str, label_hw: tuple[int, int] | None, form: Format, upright: bool = False) -> Stored:
    """An image file -> an 8-bit RGB baseline JPEG or PNG without orientation tag.

    Such files go through byte for byte. All else becomes PNG without loss: gray and palette turn to RGB, CMYK by
    Pillow's plain conversion, 16 bits by their high byte, alpha dropped, progressive JPEG and interlaced PNG decoded.
    `form` may ask for JPEG or PNG throughout (a JPEG stays as it is under `jpeg`), and for a smaller size.

    A mask lies on the pixel grid its annotator saw. Most datasets' tools ignored EXIF, so the stored pixels stay as
    they are and only the tag goes (from a JPEG without touching a pixel); but where the label's size fits the upright
    picture alone, or was drawn on the upright picture (`upright`), the picture is set upright. Raises UserError on a
    broken file or sizes that differ.
    """
    image = picture(data, name)
    orientation = image.getexif().get(ORIENTATION, 1)
    turned = upright and orientation in (2, 3, 4)
    if upright and orientation in (5, 6, 7, 8):
        turned = label_hw == (image.width, image.height)
    if label_hw is not None and label_hw != (image.height, image.width):
        if not (orientation in (5, 6, 7, 8) and label_hw == (image.width, image.height)):
            raise UserError(
                f"{name} is {image.width}x{image.height}, its label {label_hw[1]}x{label_hw[0]} (width x height): "
                "pair the image with its own label, or resize one of them"
            )
        turned = True
    ext: ImageExt = "jpg" if image.format == "JPEG" else "png"
    scaled = fit(image.height, image.width, form.max_side)
    # Under `png` a PNG is packed anew too: the same pixels, read several times as fast.
    keep = not turned and not scaled and _plain(image, data) and form.kind in ("keep", "jpeg" if ext == "jpg" else "")
    if keep and ext == "jpg" and not _sound(data):
        keep = False
    if keep and orientation != 1:
        keep = ext == "jpg"
        data = _without_exif(data) if keep else data
    if not keep:
        image = to_rgb(image, name)
        if turned:
            image = image.transpose(_UPRIGHT[orientation])
        if scaled:
            lying = turned and orientation in (5, 6, 7, 8)
            size = (scaled[0], scaled[1]) if lying else (scaled[1], scaled[0])
            image = image.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)
        ext = _EXTENSIONS.get(form.kind, "png")
        data = _jpeg(image, form.quality) if ext == "jpg" else _PACK[ext](np.asarray(image))
        if ext == "jpg":  # what training will see: statistics of the stored pixels, not of the source's
            image = decode_image(data, name)
    counts = np.array(image.histogram(), np.int64).reshape(3, 256)
    sums, squares = channel_sums(counts)
    row_sums = rows.block_sums(np.asarray(image)) if ext == "npy" else None
    return Stored(data, ext, image.height, image.width, sums, squares, row_sums)


def channel_sums(counts: NDArray[np.int64]) -> tuple[list[int], list[int]]:
    """Histograms int64 [C, 256] -> exact sums of the values and of their squares, per channel."""
    values = np.arange(256, dtype=np.int64)
    return (counts @ values).tolist(), (counts @ values**2).tolist()


def encode(pixels: NDArray[np.uint8], form: Format) -> tuple[bytes, ImageExt, NDArray[np.uint8]]:
    """RGB uint8 [H, W, 3] -> (file, extension, the pixels as they decode from it)."""
    image = Image.fromarray(pixels)
    ext = _EXTENSIONS.get(form.kind, "png")
    if ext != "jpg":
        return _PACK[ext](pixels), ext, pixels
    data = _jpeg(image, form.quality)
    return data, "jpg", np.asarray(decode_image(data, "tile"))


def fit(height: int, width: int, max_side: int | None) -> tuple[int, int] | None:
    """(height, width) whose longer side is `max_side`, or None when the image is no larger."""
    if max_side is None or max(height, width) <= max_side:
        return None
    scale = max_side / max(height, width)
    return max(1, round(height * scale)), max(1, round(width * scale))


def _jpeg(image: Image.Image, quality: int) -> bytes:
    out = io.BytesIO()
    # 4:4:4: thin poles and signs live in color edges
    image.save(out, "JPEG", quality=quality, subsampling=0)
    return out.getvalue()


def _plain(image: Image.Image, data: bytes) -> bool:
    """Whether the file is an 8-bit RGB baseline JPEG or non-interlaced PNG."""
    if image.mode != "RGB":
        return False
    if image.format == "JPEG":
        return any(marker in _BASELINE for marker, _, _ in _segments(data))
    if image.format == "PNG":
        depth, kind, interlace = data[24], data[25], data[28]
        return depth == 8 and kind == 2 and not interlace and "transparency" not in image.info
    return False


def _sound(data: bytes) -> bool:
    """Whether libjpeg-turbo decodes the JPEG without a warning, such as of stray bytes or an early end.

    The pipeline takes a warning for damage. A picture that came with one is stored as the pixels that all see in it.
    """
    try:
        simplejpeg.decode_jpeg(data, "RGB", strict=True)
    except ValueError:
        return False
    return True


def _segments(data: bytes) -> list[tuple[int, int, int]]:
    """A JPEG's header segments: (marker, start, end), up to the scan (ITU T.81, annex B)."""
    segments, at = [], 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:  # a fill byte
            at += 1
            continue
        if marker == 0xDA:
            break
        end = at + 2 if marker in _NO_LENGTH else at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        segments.append((marker, at, end))
        at = end
    return segments


def _without_exif(data: bytes) -> bytes:
    """The JPEG without its EXIF block; the coded pixels are not touched."""
    out, at = bytearray(), 0
    for marker, start, end in _segments(data):
        if marker == 0xE1 and data[start + 4 : start + 10] == b"Exif\0\0":
            out += data[at:start]
            at = end
    return bytes(out + data[at:])
