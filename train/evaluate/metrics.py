"""IoU and accuracies from one confusion matrix of whole numbers, so that any number of ranks gives the same digits.

With m[t, p] the valid pixels of true class t that are predicted as p:

    IoU_c = m[c, c] / (sum_p m[c, p] + sum_t m[t, c] - m[c, c])

over all pixels of the split at once (not per image), as the PASCAL VOC devkit (VOCevalseg.m) and the Cityscapes
scripts (evalPixelLevelSemanticLabeling.py) define it. Pixels of label 255 count neither as hits nor as misses,
whatever is predicted there. mIoU is the mean over the classes whose union is not empty, as the Cityscapes scripts take
it: a class that is predicted but never there counts with 0, one that is neither is left out (None), and `counted` says
over how many classes the mean is. The same rule gives an image's own mIoU (`image_scores`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

from ingest.errors import UserError
from ingest.shards.manifest import IGNORE

# The counters are kept this many times and added up in `result`: neighbouring pixels are mostly of one class, and GPU
# threads that add to one address queue up behind each other. Small matrices get more copies than large ones.
_COPIES_BYTES = 1 << 20


@dataclass(frozen=True)
class Scores:
    """Fractions in [0, 1], None where there is nothing to divide by. Plain Python numbers, ready for JSON."""

    miou: float | None  # mean over the classes whose union is not empty
    pixel_accuracy: float | None  # of all valid pixels
    mean_class_accuracy: float | None  # mean over the classes in the ground truth
    iou: list[float | None]  # per class; None: neither in the ground truth nor predicted
    class_accuracy: list[float | None]  # per class; None: not in the ground truth
    matrix: list[list[int]]  # [K][K] pixels: true class, predicted class

    @property
    def counted(self) -> int:
        """Classes that mIoU is the mean of."""
        return sum(iou is not None for iou in self.iou)


class ConfusionMatrix:
    """Counts pixels on the device. `update` never waits for it; `result` does, once."""

    def __init__(self, num_classes: int, device: torch.device | str) -> None:
        self.num_classes = num_classes
        cells = num_classes * num_classes + 2  # + ignored pixels + pixels that are neither a class nor 255
        copies = 1 if torch.device(device).type == "cpu" else max(1, min(1024, _COPIES_BYTES // (8 * cells)))
        self._counts = torch.zeros((copies, cells), dtype=torch.int64, device=device)

    def update(self, predicted: Tensor, labels: Tensor) -> None:
        """predicted: class ids [N,H,W] of any integer type, or logits [N,K,H,W]; labels: uint8 [N,H,W], 255 = ignore.

        `torch.bincount` would ask the device for the largest value, and wait; adding into a table of known size
        does not. (On a CPU nothing waits, and bincount is the faster one.)
        """
        if predicted.is_floating_point():
            predicted = predicted.detach().argmax(dim=1)
        if predicted.shape != labels.shape:
            raise ValueError(f"predictions {tuple(predicted.shape)} and labels {tuple(labels.shape)} differ in shape")
        classes = self.num_classes
        truth, guess = labels.reshape(-1).long(), predicted.reshape(-1).long()
        cell = truth * classes + guess
        wrong = (truth >= classes) | (guess < 0) | (guess >= classes)
        cell = cell.masked_fill_(wrong, classes * classes + 1).masked_fill_(truth == IGNORE, classes * classes)
        copies, cells = self._counts.shape
        if self._counts.device.type == "cpu":
            self._counts[0] += torch.bincount(cell, minlength=cells)
            return
        cell += torch.arange(cell.numel(), device=cell.device).remainder_(copies).mul_(cells)
        self._counts.view(-1).scatter_add_(0, cell, torch.ones_like(cell))

    def reset(self) -> None:
        """Forgets all pixels."""
        self._counts.zero_()

    def all_reduce(self) -> ConfusionMatrix:
        """A new matrix with the pixels of all ranks, to call on each of them; this one stays as it is."""
        whole = ConfusionMatrix(self.num_classes, self._counts.device)
        whole._counts[0] = self._counts.sum(dim=0)
        if dist.is_available() and dist.is_initialized():
            dist.all_reduce(whole._counts[0])
        return whole

    def result(self) -> Scores:
        """The scores so far. Raises UserError when labels or predictions were neither a class nor 255."""
        counts = self._counts.sum(dim=0).cpu()
        wrong = int(counts[-1])
        if wrong:
            raise UserError(
                f"{wrong} pixels have a label or prediction outside the {self.num_classes} classes and not {IGNORE}: "
                "check the shards with `python -m ingest verify`"
            )
        return scores(counts[:-2].view(self.num_classes, self.num_classes))


def scores(matrix: Tensor) -> Scores:
    """matrix: int64 [K,K], true class by predicted class -> Scores."""
    hits = matrix.diagonal().tolist()
    truth = matrix.sum(dim=1).tolist()
    guess = matrix.sum(dim=0).tolist()
    unions = [t + g - h for t, g, h in zip(truth, guess, hits, strict=True)]
    iou = [_ratio(hit, union) for hit, union in zip(hits, unions, strict=True)]
    accuracy = [_ratio(hit, there) for hit, there in zip(hits, truth, strict=True)]
    return Scores(
        miou=mean(iou),
        pixel_accuracy=_ratio(sum(hits), sum(truth)),
        mean_class_accuracy=mean(accuracy),
        iou=iou,
        class_accuracy=accuracy,
        matrix=matrix.tolist(),
    )


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def mean(values: Iterable[float | None]) -> float | None:
    """Of those that are there; None where none is. fsum: the same digits in whatever order."""
    known = [value for value in values if value is not None]
    return math.fsum(known) / len(known) if known else None


def image_counts(predictions: Tensor, labels: Tensor, classes: int) -> Tensor:
    """Per image and class, pixels of the intersection and the union: uint8 [N,H,W] twice -> int64 [N,2,K].

    Pixels of label 255 (or outside the classes, which `ConfusionMatrix` reports) count nowhere.
    """
    images, cells = len(labels), classes * classes + 1  # + what does not count
    cell = labels.long() * classes + predictions.long()
    cell.masked_fill_((labels >= classes) | (labels == IGNORE) | (predictions >= classes), classes * classes)
    cell += torch.arange(images, device=cell.device).view(-1, 1, 1) * cells
    counts = torch.bincount(cell.flatten(), minlength=images * cells)
    matrix = counts.view(images, cells)[:, :-1].reshape(images, classes, classes)
    hits = matrix.diagonal(dim1=1, dim2=2)
    return torch.stack([hits, matrix.sum(dim=1) + matrix.sum(dim=2) - hits], dim=1)


def image_scores(predictions: Tensor, labels: Tensor, classes: int) -> list[dict[int, float]]:
    """Per image, the IoU of each class in its label or its prediction; an image's mIoU is their mean.

    predictions, labels: uint8 [N,H,W] on one device; one transfer to the host. Empty for an image without valid pixels.
    """
    counted = image_counts(predictions, labels, classes).tolist()
    return [
        {c: hit / union for c, (hit, union) in enumerate(zip(hits, unions, strict=True)) if union}
        for hits, unions in counted
    ]
