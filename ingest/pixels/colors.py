"""Masks that hold colors: RGB pixels to train ids, exactly or by the nearest color within a tolerance."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from ingest.errors import UserError
from ingest.shards.manifest import IGNORE

Color = tuple[int, int, int]
_HINT = 60.0  # a stray color at most this far from a class's is taken for a soft edge when it is told of


def from_colors(
    rgb: NDArray[np.uint8], name: str, colors: Mapping[Color, int], tolerance: float
) -> tuple[NDArray[np.uint8], int]:
    """uint8 [H, W, 3] -> (train ids uint8 [H, W], pixels that no color matched).

    With a tolerance, a pixel takes the nearest color within that distance (of RGB values, root of the squares' sum),
    else it is ignored and counted: edges that were smoothed or JPEG-compressed lie between two classes. Without one a
    color of no class raises UserError, which names it.
    """
    code = (rgb[..., 0].astype(np.uint32) << 16) | (rgb[..., 1].astype(np.uint32) << 8) | rgb[..., 2]
    known = np.array(sorted((r << 16) | (g << 8) | b for r, g, b in colors), np.uint32)
    trains = np.array([colors[_split(code)] for code in known.tolist()], np.uint8)
    slot = np.minimum(np.searchsorted(known, code), len(known) - 1)
    missed = known[slot] != code
    ids = trains[slot]
    if not missed.any():
        return ids, 0
    strays, where = np.unique(code[missed], return_inverse=True)
    nearest, distance = _nearest(strays, known)
    if not tolerance:
        raise UserError(_unknown(name, strays, np.bincount(where.ravel()), distance))
    taken = np.where(distance <= tolerance, trains[nearest], IGNORE).astype(np.uint8)
    ids[missed] = taken[where.ravel()]
    return ids, int((distance > tolerance)[where.ravel()].sum())


def _split(code: int) -> Color:
    return code >> 16, code >> 8 & 255, code & 255


def _nearest(strays: NDArray[np.uint32], known: NDArray[np.uint32]) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """Per stray color the index of the nearest known one, and its distance; in blocks, to bound memory."""
    index = np.zeros(len(strays), np.intp)
    distance = np.zeros(len(strays), np.float32)
    palette = _channels(known)
    for start in range(0, len(strays), 16384):
        block = _channels(strays[start : start + 16384])
        squares = ((block[:, None] - palette[None]) ** 2).sum(2)
        index[start : start + 16384] = squares.argmin(1)
        distance[start : start + 16384] = np.sqrt(squares.min(1))
    return index, distance


def _channels(codes: NDArray[np.uint32]) -> NDArray[np.float32]:
    return np.stack([codes >> 16, codes >> 8 & 255, codes & 255], 1).astype(np.float32)


def _unknown(name: str, strays: NDArray[np.uint32], counts: NDArray[np.intp], distance: NDArray[np.float32]) -> str:
    """The commonest color without a class, and what to do about it."""
    most = int(counts.argmax())
    text = f"{name} holds the color {list(_split(int(strays[most])))} ({int(counts[most])} pixels) that no class has"
    if len(strays) > 1:
        text += f", and {len(strays) - 1} more such colors"
    soft = float((counts * (distance <= _HINT)).sum() / counts.sum())
    if len(strays) > 8 and soft > 0.5:
        return (
            f"{text}, most of them close to a class's: soft or JPEG edges? `tolerance: 40` in the spec gives a pixel "
            "the nearest color within that distance, and ignores the others"
        )
    return f"{text}: add it to a class or to `ignore` in the spec's `colors:`"
