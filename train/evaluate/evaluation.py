"""Evaluation: every image of a split exactly once, at its own size, on any number of ranks."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from tqdm.auto import tqdm

import nets
from ingest.errors import UserError
from ingest.shards.manifest import IGNORE
from pipeline.batch import Batch
from pipeline.loader import EvalLoader
from train.distributed import Ranks
from train.evaluate.metrics import ConfusionMatrix, Scores
from train.losses import SegmentationLoss
from train.predict.windows import Inference, segment


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


class Observer(Protocol):
    """Is shown every batch of this rank with what was predicted for it."""

    @property
    def wants_confidence(self) -> bool: ...

    def look(self, batch: Batch, predictions: Tensor, confidence: Tensor | None = None) -> None:
        """predictions uint8 [N,H,W]; confidence: their softmax probability, float32 [N,H,W], where it is wanted."""


@torch.inference_mode()
def evaluate(
    net: torch.nn.Module,
    loader: EvalLoader,
    ranks: Ranks,
    how: Inference = Inference(),
    observers: Sequence[Observer] = (),
    loss: SegmentationLoss | None = None,
) -> Evaluation:
    """Scores `net` (uint8 images [N,C,H,W] -> logits [N,K,H,W]) on every image of the loader's split.

    loss: is measured too; each batch's value counts as often as it has valid pixels.
    """
    was_training = net.training
    net.eval()
    if loss is not None:
        loss.eval()  # each rank for itself: they see unequal numbers of batches
    losses: list[Tensor] = []
    confident = any(observer.wants_confidence for observer in observers)
    matrix = ConfusionMatrix(loader.shards.manifest.num_classes, ranks.device)
    start = time.perf_counter()
    quiet = None if ranks.is_main else True
    for batch in tqdm(loader, desc="evaluate", unit="batch", leave=False, dynamic_ncols=True, disable=quiet):
        if batch.labels is None:
            raise UserError(
                f"split {loader.shards.split!r} has no labels to score against: use `train.predict`, or --submission"
            )
        logits = segment(net, batch.images.to(ranks.device, non_blocking=True), how)
        labels = batch.labels.to(ranks.device, non_blocking=True)
        predictions = logits.argmax(dim=1)
        confidence = _confidence(logits, predictions) if confident else None
        predictions = predictions.to(torch.uint8)
        matrix.update(predictions, labels)
        if loss is not None:
            value, _ = loss(nets.Logits(logits, None), labels)
            losses.append(torch.stack([value.double(), (labels != IGNORE).sum().double()]))
        for observer in observers:
            observer.look(batch, predictions, confidence)
        ranks.tick()
    whole = matrix.all_reduce()
    seconds = torch.tensor([time.perf_counter() - start], dtype=torch.float64, device=ranks.device)
    ranks.max_(seconds)
    net.train(was_training)
    mean_loss = None
    if loss is not None:
        loss.train()
        mean_loss = _mean_loss(ranks.gather(torch.stack(losses).tolist() if losses else []))
    return Evaluation(whole.result(), len(loader.shards), seconds.item(), mean_loss)


def _confidence(logits: Tensor, predictions: Tensor) -> Tensor:
    """The softmax probability of what is predicted, float32 [N,H,W]."""
    wide = logits.float()
    return (wide.gather(1, predictions[:, None])[:, 0] - wide.logsumexp(dim=1)).exp()


def _mean_loss(parts: list[list[list[float]]]) -> float | None:
    """Per rank and batch, (loss, valid pixels) -> their mean over pixels. fsum: the same digits in any order."""
    pairs = [(value, pixels) for part in parts for value, pixels in part if pixels]
    pixels = math.fsum(count for _, count in pairs)
    return math.fsum(value * count for value, count in pairs) / pixels if pixels else None
