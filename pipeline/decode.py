"""The CPU device's decoders: one file to pixels, in the calling thread, without the GIL.

Measured on one Zen 4 core, 2048x1024, DALI 2.4's CPU decoder against these (docs/performance.md): JPEG 9.7 against
8.9 ms, label PNG 4.9 against 0.2 ms. libjpeg-turbo also downsamples while it decodes, and tells of damage that it could
paper over; libdeflate inflates a label faster than zlib by a factor of twenty.
"""

from __future__ import annotations

import struct
import zlib

import cv2
import deflate
import numpy as np
import simplejpeg
from numpy.typing import NDArray

from pipeline.buffers import scratch

Pixels = NDArray[np.uint8]

_PNG = b"\x89PNG\r\n\x1a\n"
_COLOR_TYPE = {1: 0, 3: 2}  # channels -> a PNG's color type: gray, RGB
_UP = 2  # the filter that takes the row above off


class DecodeError(ValueError):
    """A file that does not decode; the message says why."""


def image(encoded: Pixels, factor: int = 1, padded: bool = False, out: Pixels | None = None) -> Pixels:
    """An image file (JPEG or PNG, uint8 [bytes]) -> uint8 [h, w, 3], or [h, w, 4] with a meaningless fourth channel.

    Args:
        encoded: the file; or the pixels themselves, uint8 [H, W, C], of images that are no files.
        factor: 1, 2, 4 or 8. h = ceil(H / factor), and so w: means of factor x factor pixels. Within a JPEG the
            decoder does it (libjpeg's scaled DCT), to within 3 gray levels of the mean.
        padded: ask for four channels.
        out: where to put the result, uint8 [h, w, 3]; not together with `padded`.

    Without `out` the result lies in memory that the thread's next call overwrites. DecodeError on damage, also where
    a decoder could go on with gray blocks.
    """
    if encoded.ndim == 3:
        pixels = downsampled(encoded, factor)
    elif encoded[0] == 0xFF:
        return _jpeg(encoded, factor, padded, out)
    else:
        rgb = _fast_png(encoded, 3)
        if rgb is None:
            bgr = cv2.imdecode(encoded, cv2.IMREAD_COLOR)
            if bgr is None:
                raise DecodeError("neither a whole PNG nor a JPEG")
            pixels = _rgb(downsampled(bgr, factor), cv2.COLOR_BGR2RGBA if padded else cv2.COLOR_BGR2RGB, padded)
        else:
            rgb = downsampled(rgb.reshape(rgb.shape[0], -1, 3), factor)
            pixels = _rgb(rgb, cv2.COLOR_RGB2RGBA, padded) if padded else rgb
    if out is not None and pixels is not out:
        _same_size(pixels.shape, out.shape)
        np.copyto(out, pixels)
        return out
    return pixels


def label(encoded: Pixels, size: tuple[int, ...] | None = None) -> Pixels:
    """A mode-L PNG (uint8 [bytes]) -> uint8 [H, W]. DecodeError on damage.

    size: (H, W) that it must have; the rows then lie behind each other in memory, else perhaps apart.
    """
    pixels = _fast_png(encoded, 1)
    if pixels is None:
        pixels = cv2.imdecode(encoded, cv2.IMREAD_UNCHANGED)
        if pixels is None or pixels.ndim != 2 or pixels.dtype != np.uint8:
            raise DecodeError("no whole 8-bit grayscale PNG")
    if size is None:
        return pixels
    _same_size(pixels.shape, size)
    return np.ascontiguousarray(pixels)


def check_jpeg(encoded: Pixels, size: tuple[int, ...]) -> None:
    """DecodeError unless the file is a JPEG, by its header, of the size (H, W)."""
    try:
        height, width, _, _ = simplejpeg.decode_jpeg_header(encoded)
    except ValueError as error:
        raise DecodeError(f"damaged JPEG ({error})") from error
    _same_size((height, width), size)


def _fast_png(encoded: Pixels, channels: int) -> Pixels | None:
    """A PNG as ingest writes it (`ingest.png`) -> uint8 [H, W * channels], rows apart in memory; None for another file.

    Such are all whose rows have no filter, or all the filter Up (PNG specification, section 9.2).
    """
    content = encoded.tobytes()
    if content[:8] != _PNG or len(content) < 45:
        return None
    width, height, *kind = struct.unpack(">IIBBBBB", content[16:29])
    if tuple(kind) != (8, _COLOR_TYPE[channels], 0, 0, 0) or not width or not height:
        return None
    pitch = channels * width + 1
    size, packed = height * pitch, _scan_data(content)
    try:
        # The first rows tell the usual writers' files, which choose a filter for each, from those worth inflating.
        first = zlib.decompressobj().decompress(packed, min(4, height) * pitch)[::pitch]
        if first.strip(b"\0") and first.strip(bytes([_UP])):
            return None
        table = np.frombuffer(deflate.zlib_decompress(packed, size), dtype=np.uint8)
    except (deflate.DeflateError, zlib.error, ValueError) as error:
        raise DecodeError(f"damaged PNG ({error})") from error
    if len(table) != size:
        raise DecodeError("damaged PNG (too few rows)")
    table = table.reshape(height, -1)
    filters, pixels = table[:, 0], table[:, 1:]
    if not filters.any():
        return pixels
    if not (filters == _UP).all():
        return None
    above = pixels[0]
    for row in pixels[1:]:  # in place: each row is the difference to the one above
        np.add(above, row, out=row)
        above = row
    return pixels


def _rgb(pixels: Pixels, conversion: int, padded: bool) -> Pixels:
    """Colors turned, into this thread's memory."""
    target = scratch("image", (*pixels.shape[:2], 4 if padded else 3))
    return cv2.cvtColor(pixels, conversion, dst=target)


def _jpeg(encoded: Pixels, factor: int, padded: bool, out: Pixels | None) -> Pixels:
    try:
        height, width, _, _ = simplejpeg.decode_jpeg_header(encoded)
        size = (-(-height // factor), -(-width // factor))
        channels = 4 if padded else 3
        if out is not None:
            _same_size(size, out.shape)
        return simplejpeg.decode_jpeg(
            encoded,
            "RGBX" if padded else "RGB",
            min_height=size[0] if factor > 1 else 0,
            min_width=size[1] if factor > 1 else 0,
            buffer=scratch("image", (*size, channels)) if out is None else out,
        )
    except ValueError as error:
        raise DecodeError(f"damaged JPEG ({error})") from error


def downsampled(pixels: Pixels, factor: int) -> Pixels:
    """Means of factor x factor pixels; the last row and column are repeated where that does not come out even."""
    if factor == 1:
        return pixels
    height, width = (-(-side // factor) for side in pixels.shape[:2])
    below, right = height * factor - pixels.shape[0], width * factor - pixels.shape[1]
    if below or right:
        pixels = np.pad(pixels, ((0, below), (0, right), (0, 0)), mode="edge")
    result = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA)
    return result.reshape(height, width, -1)


def _scan_data(content: bytes) -> bytes:
    """A PNG's compressed rows: its IDAT chunks together."""
    parts, at = [], 8
    while at + 8 <= len(content):
        length, kind = struct.unpack(">I4s", content[at : at + 8])
        if kind == b"IDAT":
            parts.append(content[at + 8 : at + 8 + length])
        elif kind == b"IEND":
            break
        at += 12 + length
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _same_size(found: tuple[int, ...], expected: tuple[int, ...]) -> None:
    if found[:2] != tuple(expected[:2]):
        raise DecodeError(f"has {found[1]}x{found[0]} pixels, the shard's record {expected[1]}x{expected[0]}")
