"""How well outlines fit: boundary IoU and boundary F-score, of whole-number counts over the split.

Boundary IoU (Cheng et al., CVPR 2021) is the IoU of two bands: the pixels of a class, in the label and in the
prediction, that lie within the width of its outline, counted over all images. As in its authors' code the image's edge
is an outline too.

The boundary F-score (Csurka et al., BMVC 2013) compares outlines one pixel thin: precision is the share of the
predicted outline that lies within the width of the label's, recall the share of the label's within the width of the
predicted one; F is their harmonic mean. Here both are over all images at once, where the paper means over images. The
image's edge is no outline.

Ignored pixels are neither counted, nor do they make an outline: what borders on them may go on below.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from ingest.errors import UserError
from ingest.shards.manifest import IGNORE
from pipeline.batch import Batch
from train.distributed import Ranks
from train.evaluate.metrics import mean, ratio

Array = NDArray[np.uint8]
_SQUARE = np.ones((3, 3), np.uint8)


@dataclass(frozen=True)
class Width:
    """A width in pixels, or as a share of an image's diagonal."""

    pixels: int = 0
    share: float = 0.0

    @staticmethod
    def parse(text: str) -> Width:
        """`3px` or `0.5%`. UserError for anything else."""
        match = re.fullmatch(r"(\d+(?:\.\d+)?)(px|%)", text.strip())
        if match and match[2] == "px" and "." not in match[1] and 1 <= int(match[1]) <= 1000:
            return Width(pixels=int(match[1]))
        if match and match[2] == "%" and 0 < float(match[1]) <= 10:
            return Width(share=float(match[1]) / 100)
        raise UserError(
            f"--boundary {text!r}: expected whole pixels such as 3px, or a share of the diagonal such as 2%"
        )

    def of(self, height: int, width: int) -> int:
        """Pixels in an image of that size, at least 1."""
        return self.pixels or max(1, round(self.share * math.hypot(height, width)))

    def __str__(self) -> str:
        return f"{self.pixels} px" if self.pixels else f"{100 * self.share:g}% of the diagonal"


@dataclass(frozen=True)
class BoundaryScores:
    """Fractions in [0, 1], per class and their means; None where a class is neither in labels nor predictions."""

    width: str
    iou: list[float | None]
    mean_iou: float | None
    f: list[float | None]
    mean_f: float | None


class Boundary:
    """Counts pixels of bands and outlines per class, on the host."""

    wants_confidence = False

    def __init__(self, classes: int, width: Width) -> None:
        self._width = width
        # per class: band hits, band union; predicted outline, of it near; the label's outline, of it near
        self._counts = np.zeros((classes, 6), np.int64)

    def look(self, batch: Batch, predictions: torch.Tensor, confidence: torch.Tensor | None = None) -> None:
        """predictions: uint8 [N,H,W]."""
        assert batch.labels is not None
        for label, prediction in zip(batch.labels.cpu().numpy(), predictions.cpu().numpy(), strict=True):
            self._counts += boundary_counts(label, prediction, len(self._counts), self._width.of(*label.shape))

    def result(self, ranks: Ranks) -> BoundaryScores:
        """Of all ranks' images. Collective: every rank calls it."""
        counts = sum(ranks.gather(self._counts))
        iou = [ratio(hits, union) for hits, union in counts[:, :2].tolist()]
        f = [_f(*row) for row in counts[:, 2:].tolist()]
        return BoundaryScores(str(self._width), iou, mean(iou), f, mean(f))


def boundary_counts(label: Array, prediction: Array, classes: int, width: int) -> NDArray[np.int64]:
    """One image, uint8 [H, W] twice -> int64 [K, 6], see `Boundary`. width: pixels."""
    ignored = label == IGNORE
    valid = ~ignored
    counts = np.zeros((classes, 6), np.int64)
    disk = _disk(width)
    for c in np.union1d(np.unique(label[valid]), np.unique(prediction[valid])):
        masks = [(each == c) | ignored for each in (label, prediction)]
        bands = [_inner(mask, width, edge=True) & valid for mask in masks]
        counts[c, :2] = (bands[0] & bands[1]).sum(), (bands[0] | bands[1]).sum()
        lines = [_inner(mask, 1, edge=False) & valid for mask in masks]
        near = [cv2.dilate(line.astype(np.uint8), disk).astype(bool) for line in lines]
        counts[c, 2:] = lines[1].sum(), (lines[1] & near[0]).sum(), lines[0].sum(), (lines[0] & near[1]).sum()
    return counts


def _inner(mask: NDArray[np.bool_], width: int, edge: bool) -> NDArray[np.bool_]:
    """The mask's pixels within `width` (a chessboard's) of a pixel outside. edge: beyond the image is outside."""
    border = 0 if edge else 1
    padded = cv2.copyMakeBorder(mask.astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=border)
    kept = cv2.erode(padded, _SQUARE, iterations=width, borderType=cv2.BORDER_CONSTANT, borderValue=border)
    return mask & (kept[1:-1, 1:-1] == 0)


def _disk(radius: int) -> Array:
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    return (y**2 + x**2 <= radius**2).astype(np.uint8)


def _f(guessed: int, guessed_near: int, there: int, there_near: int) -> float | None:
    """None where there is no outline at all; 0 where only one of the two has one."""
    if not guessed and not there:
        return None
    precision, recall = guessed_near / guessed if guessed else 0.0, there_near / there if there else 0.0
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0
