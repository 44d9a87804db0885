"""What real datasets do that a loader must survive: gray, rotated, CMYK and progressive JPEGs, masks that say nothing.

Each split's scenes 1 to 5 carry one quirk each; all others are plain, so that most scenes
stay fit for measuring.
"""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

GRAY, ROTATED, CMYK, PROGRESSIVE, BLANK_LABEL = range(1, 6)  # the scene's index in its split
_ORIENTATION = 0x0112  # EXIF tag


def jpeg(image: np.ndarray, index: int, quality: int = 92) -> bytes:
    """(H, W, 3) uint8 RGB -> JPEG, in the form that scene `index` of a split has.

    A rotated one stores its pixels a quarter turn off (W x H) and says so in EXIF orientation 6; upright it fits its
    mask. The gray one has a single channel.
    """
    picture = Image.fromarray(image)
    options: dict[str, object] = {}
    if index == GRAY:
        picture = picture.convert("L")
    elif index == ROTATED:
        exif = Image.Exif()
        exif[_ORIENTATION] = 6  # a viewer turns it clockwise
        picture, options = picture.transpose(Image.Transpose.ROTATE_90), {"exif": exif.tobytes()}
    elif index == CMYK:
        picture = picture.convert("CMYK")
    elif index == PROGRESSIVE:
        options = {"progressive": True}
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=quality, **options)
    return buffer.getvalue()


def label(ids: np.ndarray, index: int, nothing: int) -> np.ndarray:
    """The mask as drawn, or, for the one blank scene, `nothing` everywhere."""
    return np.full_like(ids, nothing) if index == BLANK_LABEL else ids


def size(index: int, height: int, width: int) -> tuple[int, int]:
    """Height and width of scene `index` where a dataset's images differ: now and then portrait, square or smaller."""
    sizes = {3: (width, height), 4: (height, height), 6: (height * 3 // 4, width), 7: (height, width * 4 // 5)}
    return sizes.get(index % 8, (height, width))
