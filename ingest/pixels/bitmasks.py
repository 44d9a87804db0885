"""Masks as annotation tools pack them into their files: base64 PNGs and run lengths of several kinds."""

from __future__ import annotations

import base64
import io
import zlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ingest.errors import UserError

_LARGEST = 1 << 28  # pixels of one mask: more is damage, or meant to fill the memory


def from_base64_png(text: str, name: str, where: str, packed: bool = False) -> NDArray[np.bool_]:
    """A PNG in base64 (`packed`: deflated once more) -> bool [h, w]: its alpha where it has one, else what is not 0."""
    try:
        data = base64.b64decode(text, validate=True)
        if packed:
            data = zlib.decompressobj().decompress(data, _LARGEST)
        with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
            if image.width * image.height > _LARGEST:
                raise UserError(f"{name}: {where} has a mask of {image.width}x{image.height} pixels: mend or remove it")
            image.load()
            pixels = np.asarray(image.getchannel("A") if "A" in image.getbands() else image)
    except UserError:
        raise
    except Exception as error:  # base64, zlib and Pillow raise by kind of damage
        raise UserError(f"{name}: {where} has a broken mask ({error}): export it again, or remove it") from error
    return np.asarray(pixels.any(axis=2) if pixels.ndim == 3 else pixels != 0)


def from_counts(counts: Sequence[int], height: int, width: int, by_column: bool) -> NDArray[np.bool_]:
    """Run lengths, of zeros first -> bool [height, width]. ValueError where they do not fill it exactly."""
    runs = np.array(counts, np.int64)
    if runs.ndim != 1 or (runs < 0).any() or int(runs.sum()) != height * width or height * width > _LARGEST:
        raise ValueError(f"run lengths of {int(runs.sum())} pixels for a mask of {width}x{height}")
    flat = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    return flat.reshape(width, height).T if by_column else flat.reshape(height, width)


def from_coco(counts: str | Sequence[int], height: int, width: int) -> NDArray[np.bool_]:
    """COCO's run lengths, compressed (text) or not (a list), column by column -> bool [height, width].

    Decoded here and not by pycocotools, which the tests hold this against: given damaged text, it writes past its
    memory and takes the process down.
    """
    runs = _coco_runs(counts.encode()) if isinstance(counts, str) else counts
    return from_counts(runs, height, width, by_column=True)


def _coco_runs(text: bytes) -> list[int]:
    """Compressed run lengths (COCO API, maskApi.c, rleFrString). ValueError on damage.

    A number is base 32, 5 bits a letter from '0' on, low bits first, a sixth bit says that more follow; from the fourth
    number on, each is the difference to the number two before.
    """
    runs: list[int] = []
    value = shift = 0
    for letter in text:
        bits = letter - 48
        if not 0 <= bits < 64 or shift > 30:
            raise ValueError(f"{chr(letter)!r} is no part of run lengths")
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:
            value -= 1 << shift
        runs.append(value + runs[-2] if len(runs) > 2 else value)
        value = shift = 0
    if shift:
        raise ValueError("the run lengths end early")
    return runs


def from_label_studio(packed: Sequence[int], height: int, width: int) -> NDArray[np.bool_]:
    """Label Studio's brush: RGBA pixels under a run-length code over bits -> bool [height, width] by alpha.

    The code (thi.ng/rle-pack): 32 bits count the values, 5 the bits a value, 4 x 4 the bits of four run lengths (each
    less one). Then, run by run: a bit (one value repeated, or as many values), two bits that choose the length's
    width, the length less one, the value or values. ValueError on damage.
    """
    data = bytes(packed)
    at = 0

    def take(bits: int) -> int:
        nonlocal at
        first, last = at >> 3, (at + bits + 7) >> 3
        if last > len(data):
            raise ValueError("the brush's data end early")
        value = int.from_bytes(data[first:last], "big") >> (8 * (last - first) - (at & 7) - bits)
        at += bits
        return value & ((1 << bits) - 1)

    count, size = take(32), take(5) + 1
    lengths = [take(4) + 1 for _ in range(4)]
    if count != 4 * height * width or size != 8 or count > 4 * _LARGEST:
        raise ValueError(f"a brush of {count} values of {size} bits for {width}x{height} pixels of RGBA")
    out = np.empty(count, np.uint8)
    done = 0
    while done < count:
        repeated, kind = take(1), take(2)
        end = done + take(lengths[kind]) + 1
        if end > count:
            raise ValueError("the brush holds more values than it says")
        if repeated:
            out[done:end] = take(8)
        else:
            wide = take(8 * (end - done))
            out[done:end] = np.frombuffer(wide.to_bytes(end - done, "big"), np.uint8)
        done = end
    return out.reshape(height, width, 4)[..., 3] > 127
