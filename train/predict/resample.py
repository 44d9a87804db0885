"""Resizing in parts: any region of a resized image, made of only the pixels that it takes.

The numbers are those that torch.nn.functional.interpolate(mode="bilinear", align_corners=False) gives for the whole
image, with `antialias` (`averaging`) and without (`bilinear`), up to float32's rounding.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True)
class Taps:
    """Along one axis: the source pixels that each new pixel is a weighted mean of."""

    index: NDArray[np.int64]
    """[new pixels, taps]; a tap that is not needed has weight 0."""
    weight: NDArray[np.float32]

    @property
    def span(self) -> tuple[int, int]:
        """The source pixels [first, last) that are needed."""
        return int(self.index.min()), int(self.index.max()) + 1


def averaging(old: int, new: int, first: int, last: int) -> Taps:
    """New pixels [first, last) of `new`, each the mean of the `old` ones below its triangle: antialiased."""
    scale = old / new
    support = max(1.0, scale)
    center = (np.arange(first, last) + 0.5) * scale
    low = np.maximum((center - support + 0.5).astype(np.int64), 0)
    high = np.minimum((center + support + 0.5).astype(np.int64), old)
    index = low[:, None] + np.arange(int((high - low).max()))
    weight = np.maximum(1 - np.abs(index - center[:, None] + 0.5) / support, 0) * (index < high[:, None])
    return Taps(np.minimum(index, high[:, None] - 1), (weight / weight.sum(1, keepdims=True)).astype(np.float32))


def bilinear(old: int, new: int, first: int, last: int) -> Taps:
    """New pixels [first, last) of `new`, each between the two `old` ones beside it."""
    if old == new:
        return Taps(np.arange(first, last)[:, None], np.ones((last - first, 1), np.float32))
    place = np.maximum((np.arange(first, last) + 0.5) * old / new - 0.5, 0)
    low = np.minimum(place.astype(np.int64), old - 1)
    part = (place - low).astype(np.float32)
    return Taps(np.stack([low, np.minimum(low + 1, old - 1)], 1), np.stack([1 - part, part], 1))


def resample(pixels: Tensor, rows: Taps, columns: Taps, origin: tuple[int, int]) -> Tensor:
    """A region [N,C,h,w], whose first row and column are `origin`, -> float32 [N,C,new rows,new columns]."""
    return _along(_along(pixels.float(), columns, 3, origin[1]), rows, 2, origin[0])


def _along(pixels: Tensor, taps: Taps, dim: int, origin: int) -> Tensor:
    shape = (1,) * dim + (-1,) + (1,) * (3 - dim)
    total: Tensor | None = None
    for index, weight in zip(taps.index.T - origin, taps.weight.T, strict=True):
        part = pixels.index_select(dim, torch.from_numpy(index.copy()).to(pixels.device))
        part.mul_(torch.from_numpy(weight.copy()).to(pixels.device).view(shape))
        total = part if total is None else total.add_(part)
    assert total is not None
    return total
