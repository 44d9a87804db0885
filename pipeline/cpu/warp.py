"""The CPU device's warp: the crop sampled once with OpenCV, uint8 in and out, straight into the batch's memory.

OpenCV releases the GIL, so threads warp several samples at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.buffers import scratch

Image = NDArray[np.uint8]

# A thread takes a sample: OpenCV's own threads inside one would only fight over the cores.
cv2.setNumThreads(0)


# A crop is sampled in upright strips. The rows of a turned strip lie in few rows of the source, which the nearest cache
# and its page table hold: 2.0 ms instead of 4.5 for a 768x768 crop of a 2048x1024 image, its label 0.65 instead of 1.4
# (one Zen 4 core). Where the source's rows are short there is less to gain, and fewer calls are better.
STRIP, WIDE_STRIP = 128, 256
LONG_ROW = 4096  # bytes


def warp_image(image: Image, matrix: NDArray[np.float64], out: Image, fill: Sequence[int]) -> None:
    """Bilinear sampling of uint8 [H, W, C] into `out`, uint8 [h, w, C]; outside the source: `fill`.

    Where `out` has three channels the image may have a fourth, which is left out.

    matrix: float64 [2, 3], crop-to-source (`geometry.matrices`). OpenCV samples at 1/32 of a pixel.
    """
    channels = out.shape[2]
    flags = cv2.INTER_LINEAR
    if channels == 3:
        # OpenCV samples 4 channels with the same result in half the time of 3, both conversions counted
        # (0.38 against 0.77 ms for a 380x380 crop of a 500x375 image, one Zen 4 core, OpenCV 5.0).
        if image.shape[2] == 3:
            image = cv2.cvtColor(image, cv2.COLOR_RGB2RGBA, dst=scratch("padded", (*image.shape[:2], 4)))
        for strip, shifted in _strips(image, matrix, out):
            target = scratch("strip", (*strip.shape[:2], 4))
            _sample(image, shifted, target, flags, [*fill, 0])
            cv2.cvtColor(target, cv2.COLOR_RGBA2RGB, dst=strip)
    elif channels <= 4:
        for strip, shifted in _strips(image, matrix, out):
            _sample(image, shifted, strip, flags, fill)
    else:  # OpenCV fills borders of at most 4 channels
        for first in range(0, channels, 4):
            part = slice(first, first + 4)
            target = scratch("strip", (*out.shape[:2], len(fill[part])))
            _sample(np.ascontiguousarray(image[:, :, part]), matrix, target, flags, fill[part])
            out[:, :, part] = target


def warp_label(label: Image, matrix: NDArray[np.float64], out: Image) -> None:
    """Nearest sampling of uint8 [H, W] into `out`, uint8 [h, w]; outside the source: 255."""
    for strip, shifted in _strips(label, matrix, out):
        # nearest: interpolating class ids invents classes
        _sample(label, shifted, strip, cv2.INTER_NEAREST, [255])


def _strips(source: Image, matrix: NDArray[np.float64], out: Image) -> Iterator[tuple[Image, NDArray[np.float64]]]:
    """Views of `out`, and the matrix for each."""
    width = STRIP if source.strides[0] > LONG_ROW else WIDE_STRIP
    for left in range(0, out.shape[1], width):
        shifted = matrix.copy()
        shifted[:, 2] += left * matrix[:, 0]
        yield out[:, left : left + width], shifted


def _sample(image: Image, matrix: NDArray[np.float64], out: Image, flags: int, fill: Sequence[int]) -> None:
    cv2.warpAffine(
        image,
        matrix,
        (out.shape[1], out.shape[0]),
        dst=out,
        flags=flags | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=list(fill),
    )
