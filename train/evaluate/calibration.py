"""Whether a net is as sure as it is right: the expected calibration error.

The confidence of a pixel is the softmax probability of the class predicted there. Pixels are sorted into BINS bins of
equal width by their confidence; the expected calibration error (Guo et al., ICML 2017) is the mean over the pixels of
the gap, in their bin, between the mean confidence and the share that is right. 0 is best; 0.05 means that a net is off
by five points on average, mostly for being too sure.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ingest.shards.manifest import IGNORE
from pipeline.batch import Batch
from train.distributed import Ranks

BINS = 15
_STEPS = 1 << 20  # confidences are added up as whole numbers of these: the same sum in any order


@dataclass(frozen=True)
class Reliability:
    """Per bin: pixels, their mean confidence and the share that is right (None where the bin is empty)."""

    ece: float | None
    pixels: list[int]
    confidence: list[float | None]
    accuracy: list[float | None]


class Calibration:
    """Counts pixels, hits and confidences per bin, on the device."""

    wants_confidence = True

    def __init__(self, device: torch.device) -> None:
        self._counts = torch.zeros(3, BINS, dtype=torch.int64, device=device)  # pixels, hits, confidence

    def look(self, batch: Batch, predictions: torch.Tensor, confidence: torch.Tensor | None = None) -> None:
        """predictions uint8 [N,H,W], confidence float32 [N,H,W] in 0..1."""
        assert batch.labels is not None and confidence is not None
        labels = batch.labels.to(predictions.device, non_blocking=True)
        steps = (confidence.clamp(0, 1) * _STEPS).round().long()
        # bin b holds (b / BINS, (b + 1) / BINS]
        bins = ((steps * BINS + _STEPS - 1) // _STEPS - 1).clamp_(0, BINS - 1)
        valid = labels != IGNORE
        for row, values in enumerate((valid.long(), (valid & (labels == predictions)).long(), steps * valid)):
            self._counts[row].scatter_add_(0, bins.flatten(), values.flatten())

    def result(self, ranks: Ranks) -> Reliability:
        """Of all ranks' pixels. Collective: every rank calls it."""
        pixels, hits, steps = ranks.sum_(self._counts.clone()).tolist()
        total = sum(pixels)
        # whole numbers until the one division: no rounding that depends on an order
        gap = sum(abs(sure - right * _STEPS) for sure, right in zip(steps, hits, strict=True))
        # Six digits: the last bits of a logit depend on how many images are run together.
        return Reliability(
            round(gap / (total * _STEPS), 6) if total else None,
            pixels,
            [round(sure / (count * _STEPS), 6) if count else None for sure, count in zip(steps, pixels, strict=True)],
            [right / count if count else None for right, count in zip(hits, pixels, strict=True)],
        )
