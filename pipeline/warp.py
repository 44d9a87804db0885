"""The CPU device's warp: one OpenCV call a sample, uint8 in and out, straight into the batch's memory.

OpenCV releases the GIL, so a pool of threads warps a batch's samples at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.augment import blur_radius

Image = NDArray[np.uint8]

# A thread takes a sample: OpenCV's own threads inside one would only fight over the cores.
cv2.setNumThreads(0)


def warp_batch(
    pool: ThreadPoolExecutor,
    images: Sequence[Image],
    labels: Sequence[Image],
    matrices_B23: NDArray[np.float64],
    sigmas: NDArray[np.float64],
    fill: Sequence[int],
    out_images: Image,
    out_labels: Image,
) -> None:
    """Warps images (uint8 [H, W, C]) into out_images (uint8 [B, h, w, C]), labels (uint8 [H, W]) into [B, h, w]."""
    jobs = [
        pool.submit(warp, images[i], labels[i], matrices_B23[i], sigmas[i], out_images[i], out_labels[i], fill)
        for i in range(len(images))
    ]
    for job in jobs:
        job.result()


def warp(
    image: Image,
    label: Image,
    matrix: NDArray[np.float64],
    sigma: float,
    out_image: Image,
    out_label: Image,
    fill: Sequence[int],
) -> None:
    """One sample: bilinear for the image, nearest for the label; outside the source `fill` and 255; then the blur.

    matrix: float64 [2, 3], crop-to-source (`geometry.matrices`). OpenCV samples at 1/32 of a pixel.
    """
    size = (out_image.shape[1], out_image.shape[0])
    channels = image.shape[2]
    for first in range(0, channels, 4):  # OpenCV fills borders of at most 4 channels
        part = slice(first, first + 4)
        whole = channels <= 4
        result = cv2.warpAffine(
            image if whole else np.ascontiguousarray(image[:, :, part]),
            matrix,
            size,
            dst=out_image if whole else None,
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_CONSTANT,
            borderValue=list(fill[part]),
        )
        if not whole:
            out_image[:, :, part] = result.reshape(*out_image.shape[:2], -1)
    # nearest: interpolating class ids invents classes
    cv2.warpAffine(
        label,
        matrix,
        size,
        dst=out_label,
        flags=cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=[255],
    )
    radius = blur_radius(sigma)
    if radius:
        window = (2 * radius + 1, 2 * radius + 1)
        cv2.GaussianBlur(out_image, window, sigma, dst=out_image, borderType=cv2.BORDER_REFLECT_101)
