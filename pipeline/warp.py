"""The CPU device's warp: one OpenCV call a sample, uint8 in and out, straight into the batch's memory.

OpenCV releases the GIL, so threads warp several samples at once.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.augment import blur_radius
from pipeline.scratch import scratch

Image = NDArray[np.uint8]

# A thread takes a sample: OpenCV's own threads inside one would only fight over the cores.
cv2.setNumThreads(0)


def warp_image(image: Image, matrix: NDArray[np.float64], sigma: float, out: Image, fill: Sequence[int]) -> None:
    """Bilinear sampling of uint8 [H, W, C] into `out`, uint8 [h, w, C], then the blur; outside the source: `fill`.

    Where `out` has three channels the image may have a fourth, which is left out.

    matrix: float64 [2, 3], crop-to-source (`geometry.matrices`). OpenCV samples at 1/32 of a pixel.
    """
    channels = out.shape[2]
    if channels == 3:
        # OpenCV samples 4 channels with the same result in half the time of 3, both conversions counted
        # (0.38 against 0.77 ms for a 380x380 crop of a 500x375 image, one Zen 4 core, OpenCV 5.0).
        if image.shape[2] == 3:
            padded = scratch("padded", (*image.shape[:2], 4))
            image = cv2.cvtColor(image, cv2.COLOR_RGB2RGBA, dst=padded)
        target = scratch("target", (*out.shape[:2], 4))
        _linear(image, matrix, [*fill, 0], target)
        cv2.cvtColor(target, cv2.COLOR_RGBA2RGB, dst=out)
    elif channels <= 4:
        _linear(image, matrix, fill, out)
    else:  # OpenCV fills borders of at most 4 channels
        for first in range(0, channels, 4):
            part = slice(first, first + 4)
            target = scratch("target", (*out.shape[:2], len(fill[part])))
            _linear(np.ascontiguousarray(image[:, :, part]), matrix, fill[part], target)
            out[:, :, part] = target
    radius = blur_radius(sigma)
    if radius:
        window = (2 * radius + 1, 2 * radius + 1)
        cv2.GaussianBlur(out, window, sigma, dst=out, borderType=cv2.BORDER_REFLECT_101)


def warp_label(label: Image, matrix: NDArray[np.float64], out: Image) -> None:
    """Nearest sampling of uint8 [H, W] into `out`, uint8 [h, w]; outside the source: 255."""
    # nearest: interpolating class ids invents classes
    flags = cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP
    size = (out.shape[1], out.shape[0])
    cv2.warpAffine(label, matrix, size, dst=out, flags=flags, borderMode=cv2.BORDER_CONSTANT, borderValue=[255])


def _linear(image: Image, matrix: NDArray[np.float64], fill: Sequence[int], out: Image) -> None:
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    size = (out.shape[1], out.shape[0])
    cv2.warpAffine(image, matrix, size, dst=out, flags=flags, borderMode=cv2.BORDER_CONSTANT, borderValue=list(fill))
