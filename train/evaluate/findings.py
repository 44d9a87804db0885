"""Where a net and the labels disagree: the most confused pairs of classes, and labels that may be wrong.

In each image, the connected areas where the label says one class and the net another are looked at. Of each pair of
classes the largest area is kept as an example. An area in which the net is sure (a probability of SURE and more) is a
suspected label error; the largest come first. Most are errors of the net all the same: they are to be looked at.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from ingest.shards import pictures
from ingest.shards.manifest import IGNORE
from pipeline.batch import Batch
from train.distributed import Ranks

Array = NDArray[np.uint8]

SURE = 0.9
SUSPECTS = 24  # suspected label errors kept
PAIRS = 200  # pairs of classes that an example is kept of: those with the largest areas
_PER_IMAGE = 4  # pairs of an image that are looked at, those with the most pixels
_MARGIN, _LEAST, _MOST = 0.5, 96, 256  # around an area: share of its side; least and most side of a kept crop, pixels


@dataclass(frozen=True)
class Area:
    """One connected area of disagreement, and its surroundings at most _MOST pixels large."""

    key: str
    label: int  # class by the label
    predicted: int
    pixels: int
    box: tuple[int, int, int, int]  # of the crop in the image: y, x, height, width
    image: Array  # uint8 [h, w, 3]
    labels: Array  # class ids uint8 [h, w]
    predictions: Array
    inside: Array  # 1 within the area, uint8 [h, w]

    @property
    def order(self) -> tuple[int, str, int, int]:
        """Largest first; of equals by name and place: the same order on any number of ranks."""
        return -self.pixels, self.key, self.box[0], self.box[1]


class Findings:
    """Keeps the largest areas of disagreement as the batches pass."""

    wants_confidence = True

    def __init__(self) -> None:
        self._pairs: dict[tuple[int, int], Area] = {}
        self._suspects: list[Area] = []

    def look(self, batch: Batch, predictions: torch.Tensor, confidence: torch.Tensor | None = None) -> None:
        """predictions uint8 [N,H,W], confidence float32 [N,H,W]."""
        assert batch.labels is not None and confidence is not None
        for i, key in enumerate(batch.keys):
            label, predicted = batch.labels[i].cpu().numpy(), predictions[i].cpu().numpy()
            wrong = (label != predicted) & (label != IGNORE)
            sure = wrong & (confidence[i].cpu().numpy() >= SURE)
            shown = _Shown(key, batch.images[i], label, predicted)
            for area in _largest(shown, wrong, 1):
                self._pairs = _best_of([*self._pairs.values(), area])
            self._suspects = sorted([*self._suspects, *_largest(shown, sure, 3)], key=lambda area: area.order)
            self._suspects = self._suspects[:SUSPECTS]

    def pairs(self, ranks: Ranks) -> dict[tuple[int, int], Area]:
        """(class by the label, class predicted) -> its largest area, of all ranks. Collective: every rank calls it."""
        return _best_of(area for part in ranks.gather(self._pairs) for area in part.values())

    def suspects(self, ranks: Ranks) -> list[Area]:
        """Suspected label errors of all ranks, largest first. Collective: every rank calls it."""
        return sorted((area for part in ranks.gather(self._suspects) for area in part), key=lambda area: area.order)[
            :SUSPECTS
        ]


@dataclass(frozen=True)
class _Shown:
    key: str
    image: torch.Tensor  # uint8 [C, H, W]
    label: Array
    predicted: Array


def _best_of(areas: Iterable[Area]) -> dict[tuple[int, int], Area]:
    best: dict[tuple[int, int], Area] = {}
    for area in sorted(areas, key=lambda area: area.order):
        best.setdefault((area.label, area.predicted), area)
    return dict(list(best.items())[:PAIRS])


def _largest(shown: _Shown, where: NDArray[np.bool_], each: int) -> list[Area]:
    """The `each` largest areas of the pairs that have the most pixels there."""
    codes = shown.label.astype(np.int64) * 256 + shown.predicted
    counts = np.bincount(codes[where], minlength=1)
    order = np.argsort(-counts, kind="stable")[:_PER_IMAGE]
    areas = []
    for code in order[counts[order] > 0].tolist():
        mask = (where & (codes == code)).astype(np.uint8)
        _, parts, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=4)
        sizes = stats[1:, cv2.CC_STAT_AREA]
        for number in np.argsort(-sizes, kind="stable")[:each]:
            x, y, width, height = (int(value) for value in stats[1 + number, :4])
            own = (parts == 1 + number).astype(np.uint8)
            areas.append(_area(shown, divmod(code, 256), own, (y, x, height, width)))
    return areas


def _area(shown: _Shown, pair: tuple[int, int], own: Array, box: tuple[int, int, int, int]) -> Area:
    """With its surroundings, so that one sees what it is about. own: 1 within it, uint8 [H, W]; box: what holds it."""
    edges = []
    for start, length, limit in zip(box[:2], box[2:], shown.label.shape, strict=True):
        wanted = min(limit, max(_LEAST, round(length * (1 + 2 * _MARGIN))))
        first = min(max(0, start + length // 2 - wanted // 2), limit - wanted)
        edges.append((first, wanted))
    (top, height), (left, width) = edges
    part = slice(top, top + height), slice(left, left + width)
    image = pictures.rgb(shown.image[:, part[0], part[1]].permute(1, 2, 0).cpu().numpy())
    scale = min(1.0, _MOST / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    small = cv2.resize(np.ascontiguousarray(image), size, interpolation=cv2.INTER_AREA)
    # nearest: interpolating class ids invents classes
    maps = (shown.label, shown.predicted, own)
    ids = [cv2.resize(each[part], size, interpolation=cv2.INTER_NEAREST) for each in maps]
    return Area(shown.key, *pair, int(own.sum()), (top, left, height, width), small, *ids)
