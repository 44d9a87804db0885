"""Pictures and masks to bytes."""

from __future__ import annotations

import io

import cv2
import numpy as np
from PIL import Image

from ingest.scenes.kinds import Kind


def jpeg(image: np.ndarray, quality: int = 92) -> bytes:
    """(H, W, 3) uint8 RGB, or (H, W) gray -> baseline JPEG, 4:2:0."""
    return _save(Image.fromarray(image), "JPEG", quality=quality)


def png(image: np.ndarray) -> bytes:
    """(H, W) uint8 mode L, or (H, W, 3) RGB -> PNG."""
    return _save(Image.fromarray(image), "PNG")


def palette_png(ids: np.ndarray, palette: np.ndarray) -> bytes:
    """ids (H, W) uint8 and palette (256, 3) uint8 -> palette PNG whose indices are the ids."""
    image = Image.fromarray(ids)
    image.putpalette(palette.tobytes())
    return _save(image, "PNG")


def mat(variables: dict[str, object]) -> bytes:
    """Variables -> a MATLAB 5 .mat file; a dict becomes a struct, an object array a cell."""
    import scipy.io  # only two layouts need it, and it takes a while to load

    buffer = io.BytesIO()
    scipy.io.savemat(buffer, variables, do_compression=True)
    content = bytearray(buffer.getvalue())
    content[:116] = b"MATLAB 5.0 MAT-file, drawn by segrail".ljust(116)  # the writer's own text holds the date
    return bytes(content)


def _save(image: Image.Image, form: str, **options: int) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def table(ids: dict[Kind, int], other: int) -> np.ndarray:
    """A lookup (256,) uint8 from kinds to a dataset's ids; kinds that are not named become `other`."""
    lookup = np.full(256, other, np.uint8)
    for kind, value in ids.items():
        lookup[kind] = value
    return lookup


def voc_colormap() -> np.ndarray:
    """VOC's color map (256, 3) uint8: the bits of the index, dealt to R, G, B from their highest bit down."""
    index = np.arange(256)
    colors = np.zeros((256, 3), int)
    for level in range(8):
        for channel in range(3):
            colors[:, channel] |= (index >> (3 * level + channel) & 1) << (7 - level)
    return colors.astype(np.uint8)


def borders(ids: np.ndarray, things: np.ndarray, width: int) -> np.ndarray:
    """ids (H, W) with 255 along the edges of objects, `width` pixels to either side; id 0 is background.

    `things` (H, W) separates objects that touch, as VOC's borders do.
    """
    marked = np.where(ids > 0, things.astype(np.int32) + 1, 0).astype(np.float32)
    edge = cv2.dilate(marked, np.ones((3, 3))) != cv2.erode(marked, np.ones((3, 3)))
    if width > 1:
        edge = cv2.dilate(edge.astype(np.uint8), np.ones((2 * width - 1, 2 * width - 1))) > 0
    return np.where(edge, np.uint8(255), ids)
