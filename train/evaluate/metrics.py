"""IoU and accuracies from one confusion matrix of whole numbers, so that any number of ranks gives the same digits.

With m[t, p] the valid pixels of true class t that are predicted as p:

    IoU_c = m[c, c] / (sum_p m[c, p] + sum_t m[t, c] - m[c, c])

over all pixels of the split at once (not per image), as the PASCAL VOC devkit (VOCevalseg.m) and the Cityscapes
scripts (evalPixelLevelSemanticLabeling.py) define it. Pixels of label 255 count neither as hits nor as misses,
whatever is predicted there. mIoU is the mean over the classes whose union is not empty, as the Cityscapes scripts take
it: a class that is predicted but never there counts with 0, one that is neither is left out (None), and `counted` says
over how many classes the mean is. The same rule gives an image's own mIoU (`image_scores`). `MeanOver` names the two
other rules in use: over the classes in the ground truth, and over all, where the VOC devkit and the ADE20K kit count a
class that is nowhere with 0. On whole val sets, where every class occurs, all three are one number.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import torch
import torch.distributed as dist
from torch import Tensor

from ingest.errors import UserError
from ingest.shards.manifest import IGNORE

MeanOver = Literal["union", "labels", "all"]

# The counters are kept this many times and added up in `result`: neighboring pixels are mostly of one class, and GPU
# threads that add to one address queue up behind each other. Small matrices get more copies than large ones.
_COPIES_BYTES = 1 << 20


@dataclass(frozen=True)
class Scores:
    """Fractions in [0, 1], None where there is nothing to divide by. Plain Python numbers, ready for JSON."""

    miou: float | None  # mean over the classes that `counted` counts
    pixel_accuracy: float | None  # of all valid pixels
    mean_class_accuracy: float | None  # mean over the classes in the ground truth
    iou: list[float | None]  # per class; None: neither in the ground truth nor predicted
    class_accuracy: list[float | None]  # per class (its recall); None: not in the ground truth
    matrix: list[list[int]]  # [K][K] pixels: true class, predicted class
    counted: int  # classes that mIoU (and mean Dice) is the mean of
    dice: list[float | None]  # per class: 2 IoU / (1 + IoU), also called F1; None where IoU is None
    mean_dice: float | None  # over the same classes as mIoU
    fw_iou: float | None  # frequency-weighted IoU: each class's IoU by its share of the valid pixels


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

    def result(self, mean_over: MeanOver = "union") -> Scores:
        """The scores so far. Raises UserError when labels or predictions were neither a class nor 255."""
        counts = self._counts.sum(dim=0).cpu()
        wrong = int(counts[-1])
        if wrong:
            raise UserError(
                f"{wrong} pixels have a label or prediction outside the {self.num_classes} classes and not {IGNORE}: "
                "check the shards with `python -m ingest verify`"
            )
        return scores(counts[:-2].view(self.num_classes, self.num_classes), mean_over)


def scores(matrix: Tensor, mean_over: MeanOver = "union") -> Scores:
    """matrix: int64 [K,K], true class by predicted class -> Scores. mean_over: which classes mIoU is the mean of."""
    hits = matrix.diagonal().tolist()
    truth = matrix.sum(dim=1).tolist()
    guess = matrix.sum(dim=0).tolist()
    unions = [t + g - h for t, g, h in zip(truth, guess, hits, strict=True)]
    iou = [ratio(hit, union) for hit, union in zip(hits, unions, strict=True)]
    dice = [ratio(2 * hit, t + g) for hit, t, g in zip(hits, truth, guess, strict=True)]
    accuracy = [ratio(hit, there) for hit, there in zip(hits, truth, strict=True)]
    over = {
        "union": [union > 0 for union in unions],
        "labels": [there > 0 for there in truth],
        "all": [sum(truth) > 0] * len(hits),
    }[mean_over]
    weighted = [there * (score or 0.0) for there, score in zip(truth, iou, strict=True)]
    return Scores(
        miou=mean((score or 0.0) if counts else None for score, counts in zip(iou, over, strict=True)),
        pixel_accuracy=ratio(sum(hits), sum(truth)),
        mean_class_accuracy=mean(accuracy),
        iou=iou,
        class_accuracy=accuracy,
        matrix=matrix.tolist(),
        counted=sum(over),
        dice=dice,
        mean_dice=mean((score or 0.0) if counts else None for score, counts in zip(dice, over, strict=True)),
        fw_iou=ratio(math.fsum(weighted), sum(truth)),
    )


def ratio(part: float, whole: float) -> float | None:
    """None of nothing."""
    return part / whole if whole else None


def mean(values: Iterable[float | None]) -> float | None:
    """Of those that are there; None where none is. fsum: the same digits in whatever order."""
    known = [value for value in values if value is not None]
    return math.fsum(known) / len(known) if known else None


def per_class_counts(predictions: Tensor, labels: Tensor, classes: int) -> Tensor:
    """Per image and class, pixels that are hits, in the label, and predicted: uint8 [N,H,W] twice -> int64 [N,3,K].

    Pixels of label 255 (or outside the classes, which `ConfusionMatrix` reports) count nowhere.
    """
    images, cells = len(labels), classes * classes + 1  # + what does not count
    cell = labels.long() * classes + predictions.long()
    cell.masked_fill_((labels >= classes) | (labels == IGNORE) | (predictions >= classes), classes * classes)
    cell += torch.arange(images, device=cell.device).view(-1, 1, 1) * cells
    counts = torch.bincount(cell.flatten(), minlength=images * cells)
    matrix = counts.view(images, cells)[:, :-1].reshape(images, classes, classes)
    return torch.stack([matrix.diagonal(dim1=1, dim2=2), matrix.sum(dim=2), matrix.sum(dim=1)], dim=1)


def image_scores(predictions: Tensor, labels: Tensor, classes: int) -> list[dict[int, float]]:
    """Per image, the IoU of each class in its label or its prediction; an image's mIoU is their mean.

    predictions, labels: uint8 [N,H,W] on one device; one transfer to the host. Empty for an image without valid pixels.
    """
    counted = per_class_counts(predictions, labels, classes).tolist()
    return [
        {c: h / (t + g - h) for c, (h, t, g) in enumerate(zip(hits, truth, guess, strict=True)) if t + g}
        for hits, truth, guess in counted
    ]
