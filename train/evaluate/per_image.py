"""Each image's counts, and from them how far a score could be off: a bootstrap over images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.batch import Batch
from train.distributed import Ranks
from train.evaluate.metrics import MeanOver, per_class_counts

RESAMPLES = 1000


@dataclass(frozen=True)
class Interval:
    """A score's 95% interval: where it lies for 95 of 100 sets of images drawn, with repeats, from this one."""

    low: float
    high: float


class PerImage:
    """Keeps, per image and class, the pixels that are hits, in the label, and predicted."""

    wants_confidence = False

    def __init__(self, classes: int) -> None:
        self._classes = classes
        self._counts: dict[str, NDArray[np.int64]] = {}

    def look(self, batch: Batch, predictions: torch.Tensor, confidence: torch.Tensor | None = None) -> None:
        """predictions: uint8 [N,H,W]."""
        assert batch.labels is not None
        counted = per_class_counts(predictions, batch.labels.to(predictions.device), self._classes)
        for key, counts in zip(batch.keys, counted.cpu().numpy(), strict=True):
            self._counts[key] = counts

    def intervals(self, ranks: Ranks, mean_over: MeanOver) -> dict[str, Interval]:
        """95% intervals of `miou` and `pixel_accuracy`, the same on every rank and on any number of ranks.

        Empty for a single image, and where no pixel counts. Collective: every rank calls it.
        """
        everything = {key: counts for part in ranks.gather(self._counts) for key, counts in part.items()}
        if len(everything) < 2:
            return {}
        return bootstrap(np.stack([everything[key] for key in sorted(everything)]), mean_over)


def bootstrap(counts: NDArray[np.int64], mean_over: MeanOver = "union") -> dict[str, Interval]:
    """counts: int64 [images, 3, K] of `per_class_counts` -> 95% intervals, by the percentiles of RESAMPLES draws."""
    images, _, classes = counts.shape
    draws = np.random.default_rng(0).multinomial(images, np.full(images, 1 / images), RESAMPLES)
    # whole numbers below 2^53: the sums are exact in float64
    sums = (draws.astype(np.float64) @ counts.reshape(images, -1).astype(np.float64)).reshape(-1, 3, classes)
    hits, truth, guess = sums[:, 0], sums[:, 1], sums[:, 2]
    union = truth + guess - hits
    counted = {"union": union > 0, "labels": truth > 0, "all": np.ones_like(union, bool)}[mean_over]
    iou = hits / np.maximum(union, 1)
    means = np.where(counted, iou, 0).sum(1) / np.maximum(counted.sum(1), 1)
    pixels = truth.sum(1)
    found = {"miou": means[pixels > 0], "pixel_accuracy": hits.sum(1)[pixels > 0] / pixels[pixels > 0]}
    return {
        name: Interval(*(float(value) for value in np.percentile(values, [2.5, 97.5])))
        for name, values in found.items()
        if len(values)
    }
