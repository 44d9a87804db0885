"""The part of an image stored as pixels that a crop looks at: only its rows are read, only its columns worked on."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from ingest.shards.reader import ShardSet
from pipeline import decode
from pipeline.buffers import scratch
from pipeline.request import CHANGED

Pixels = NDArray[np.uint8]

_MARGIN = 2  # pixels: bilinear sampling looks at the next one, and OpenCV rounds places to 1/32
_GRID = 8  # the largest downsampling factor: regions begin at its multiples, so that the same pixels are averaged


@dataclass(frozen=True)
class Region:
    """Rows top..bottom-1 and columns left..right-1 of an image."""

    top: int
    bottom: int
    left: int
    right: int


def looked_at(matrix: NDArray[np.float64], out_hw: tuple[int, int], hw: tuple[int, int], factor: int) -> Region:
    """What a crop of `out_hw` pixels samples of an image of `hw`, at least 8 x 8 pixels or all.

    matrix: float64 [2, 3], crop-to-source. factor: by which the image is downsampled first.
    """
    corners = itertools.product((0, out_hw[1] - 1), (0, out_hw[0] - 1))
    x, y = matrix @ np.array([(x, y, 1) for x, y in corners]).T
    top, bottom = _within(y, hw[0], _MARGIN * factor)
    left, right = _within(x, hw[1], _MARGIN * factor)
    return Region(top, bottom, left, right)


def _within(places: NDArray[np.float64], length: int, margin: int) -> tuple[int, int]:
    low = int(np.clip(np.floor(places.min()) - margin, 0, length - 1))
    high = int(np.clip(np.ceil(places.max()) + margin + 1, 1, length))
    begin = low // _GRID * _GRID
    return begin, min(length, max(begin + _GRID, -(-high // _GRID) * _GRID))


def read(shards: ShardSet, sample: int, matrix: NDArray[np.float64], out_hw: tuple[int, int], factor: int) -> Pixels:
    """A raw image, downsampled, as far as a crop looks at it; what lies elsewhere is left as it happens to be.

    uint8 [ceil(H / factor), ceil(W / factor), C], or four channels of which the last is meaningless where C is 3, in
    memory that the thread's next call overwrites. Of the image's full size, so that places in it are the same numbers,
    and round alike, as in one that was decoded whole. DecodeError where the rows are not those that were ingested.
    """
    height, width = shards.sizes_hw[sample].tolist()
    part = looked_at(matrix, out_hw, (height, width), factor)
    channels = shards.manifest.channels
    found = shards.rows(sample, part.top, part.bottom, scratch("rows", (height * width * channels,)))
    if found is None:
        raise decode.DecodeError(CHANGED)
    rows, first = found
    pixels = rows[part.top - first : part.bottom - first, part.left : part.right]
    pixels = decode.downsampled(pixels, factor)
    whole = scratch("image", (-(-height // factor), -(-width // factor), 4 if channels == 3 else channels))
    top, left = part.top // factor, part.left // factor
    into = whole[top : top + pixels.shape[0], left : left + pixels.shape[1]]
    if channels == 3:
        cv2.cvtColor(pixels, cv2.COLOR_RGB2RGBA, dst=into)
    else:
        np.copyto(into, pixels)
    return whole
