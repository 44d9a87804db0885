"""What the CPU device does to a crop after the warp, in place: colors, blur, erasing."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.augment import blur_radius
from pipeline.request import Request


def finish(crop: NDArray[np.uint8], request: Request, i: int, fill: Sequence[int]) -> None:
    """Crop i of the request, uint8 [h, w, C]. fill: the color of what is erased, uint8 per channel."""
    assert request.sigmas is not None
    if request.colors is not None:
        # 0.03 ms for 380x380; rounds and clips once
        cv2.transform(crop, request.colors.maps[i], dst=crop)
    sigma = request.sigmas[i]
    if radius := blur_radius(sigma):
        window = (2 * radius + 1, 2 * radius + 1)
        cv2.GaussianBlur(crop, window, sigma, dst=crop, borderType=cv2.BORDER_REFLECT_101)
    if request.erased is not None:
        top, left, height, width = request.erased[i].tolist()
        crop[top : top + height, left : left + width] = fill
