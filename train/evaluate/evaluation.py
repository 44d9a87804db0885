"""Evaluation on whole images at their own size, each exactly once, at any world size.

python -m train.evaluate --checkpoint saved/x/y/checkpoints/best.pt --data shards/x --split val --json out.json
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from tqdm.auto import tqdm

import nets
from ingest.errors import UserError
from ingest.shards.manifest import IGNORE
from ingest.shards.wording import count
from pipeline.batch import Batch
from pipeline.loader import EvalLoader
from train import model
from train.distributed import Ranks
from train.evaluate.metrics import ConfusionMatrix, Scores
from train.losses import SegmentationLoss


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation found, the same on every rank."""

    scores: Scores
    images: int
    seconds: float
    """Of the slowest rank."""
    loss: float | None = None
    """Mean over all valid pixels of the images' losses; None where no loss was asked for."""

    @property
    def images_per_second(self) -> float:
        return self.images / self.seconds


@torch.inference_mode()
def evaluate(
    net: torch.nn.Module,
    loader: EvalLoader,
    world: Ranks,
    amp: str = "auto",
    look: Callable[[Batch, torch.Tensor], None] | None = None,
    loss: SegmentationLoss | None = None,
) -> Evaluation:
    """Scores `net` (uint8 images [N,C,H,W] -> logits [N,K,H,W]) on every image of the loader's split.

    look: is shown each batch of this rank with its predictions, uint8 [N,H,W], to keep pictures of them. loss: is
    measured too; each batch's value counts as often as it has valid pixels.
    """
    was_training = net.training
    net.eval()
    if loss is not None:
        loss.eval()  # each rank for itself: they see unequal numbers of batches
    losses: list[torch.Tensor] = []
    matrix = ConfusionMatrix(loader.shards.manifest.num_classes, world.device)
    start = time.perf_counter()
    quiet = None if world.is_main else True
    for batch in tqdm(loader, desc="evaluate", unit="batch", leave=False, dynamic_ncols=True, disable=quiet):
        if batch.labels is None:
            raise UserError(f"split {loader.shards.split!r} has no labels to evaluate against: use `train.predict`")
        images = batch.images.to(world.device, non_blocking=True)
        with model.autocast(amp, world.device):
            logits = net(images)
        labels = batch.labels.to(world.device, non_blocking=True)
        predictions = logits.argmax(dim=1).to(torch.uint8)
        matrix.update(predictions, labels)
        if loss is not None:
            value, _ = loss(nets.Logits(logits, None), labels)
            losses.append(torch.stack([value.double(), (labels != IGNORE).sum().double()]))
        if look is not None:
            look(batch, predictions)
        world.tick()
    scores = matrix.all_reduce().result()
    seconds = torch.tensor([time.perf_counter() - start], dtype=torch.float64, device=world.device)
    world.max_(seconds)
    net.train(was_training)
    mean_loss = None
    if loss is not None:
        loss.train()
        mean_loss = _mean_loss(world.gather(torch.stack(losses).tolist() if losses else []))
    return Evaluation(scores, len(loader.shards), seconds.item(), mean_loss)


def _mean_loss(parts: list[list[list[float]]]) -> float | None:
    """Per rank and batch, (loss, valid pixels) -> their mean over pixels. fsum: the same digits in any order."""
    pairs = [(value, pixels) for part in parts for value, pixels in part if pixels]
    pixels = math.fsum(count for _, count in pairs)
    return math.fsum(value * count for value, count in pairs) / pixels if pixels else None


def table(evaluation: Evaluation, classes: list[str]) -> str:
    """Per-class IoU, mIoU and speed, for a terminal."""
    scores = evaluation.scores
    width = max(len(name) for name in [*classes, "mean class accuracy"])
    lines = [f"{'class':<{width}}  {'IoU':>6}"]
    lines += [f"{name:<{width}}  {_percent(iou)}" for name, iou in zip(classes, scores.iou, strict=True)]
    lines += ["-" * (width + 8), f"{'mIoU':<{width}}  {_percent(scores.miou)}{_over(scores.counted, len(classes))}"]
    lines += [f"{'pixel accuracy':<{width}}  {_percent(scores.pixel_accuracy)}"]
    shown = sum(accuracy is not None for accuracy in scores.class_accuracy)
    accuracy = f"{_percent(scores.mean_class_accuracy)}{_over(shown, len(classes))}"
    lines += [f"{'mean class accuracy':<{width}}  {accuracy}"]
    lines += [
        f"{'images/s':<{width}}  {evaluation.images_per_second:6.1f}  ({count(evaluation.images, 'whole image')})"
    ]
    return "\n".join(lines)


def as_json(evaluation: Evaluation, classes: list[str]) -> dict[str, Any]:
    """The same as plain values; an IoU is null where the class occurs neither in labels nor predictions."""
    scores = evaluation.scores
    return {
        "miou": scores.miou,
        "miou_classes": scores.counted,
        "pixel_accuracy": scores.pixel_accuracy,
        "mean_class_accuracy": scores.mean_class_accuracy,
        "loss": evaluation.loss if evaluation.loss is not None and math.isfinite(evaluation.loss) else None,
        "iou": dict(zip(classes, scores.iou, strict=True)),
        "confusion": scores.matrix,
        "images": evaluation.images,
        "images_per_second": evaluation.images_per_second,
    }


def _over(counted: int, classes: int) -> str:
    """What a mean is over, where that is not all classes."""
    return "" if counted == classes else f"  (over {counted} of {classes} classes)"


def _percent(value: float | None) -> str:
    return f"{'-':>6}" if value is None else f"{100 * value:6.2f}"
