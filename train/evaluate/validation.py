"""A run's validations: scores, curves, pictures."""

from __future__ import annotations

import contextlib

import numpy as np
import torch

from ingest.errors import UserError, brief
from ingest.shards import folders
from ingest.shards.manifest import Manifest
from ingest.shards.reader import ShardSet
from pipeline.config import DataConfig
from pipeline.loader import EvalLoader
from train import backends, model
from train.checkpoints.state import DatasetFacts
from train.config import TrainConfig
from train.distributed import Ranks
from train.evaluate.evaluation import Evaluation, Observer, evaluate
from train.evaluate.extremes import Extremes
from train.evaluate.showcase import Showcase
from train.log import charts
from train.log.tracking import Tracker
from train.losses import SegmentationLoss
from train.optim.ema import Ema
from train.predict.windows import Inference


def validation_shards(data: DataConfig, trained_on: Manifest) -> ShardSet:
    """The split that the recipe validates on. UserError when it is in another folder whose classes are others."""
    shards = ShardSet(data.val_path or data.folders[0].path, data.val, data.staging_cache)
    for what in ("classes", "channels"):
        theirs, ours = getattr(shards.manifest, what), getattr(trained_on, what)
        if theirs != ours:
            raise UserError(
                f"data.val_path = {data.val_path!r} has {what} {brief(theirs)}, data.path = "
                f"{folders.shown(data.path)!r} {brief(ours)}: validate on a dataset of the same {what}"
            )
    return shards


class Validator:
    """Scores a net on the validation split, and logs it. Every rank holds one and calls it at the same steps."""

    def __init__(
        self, loader: EvalLoader, ranks: Ranks, train: TrainConfig, facts: DatasetFacts, data: DataConfig
    ) -> None:
        self.loader, self._data = loader, data
        self._ranks, self._train, self._classes = ranks, train, facts["classes"]
        self._showcase = Showcase(loader.shards, train.pictures)
        self.extremes: Extremes | None = None
        """Of the last `score`, where it was asked for."""

    def score(self, net: torch.nn.Module, ema: Ema | None, loss: SegmentationLoss, last: bool = False) -> Evaluation:
        """Scores the net, or the average of its weights where one is kept; the same on every rank.

        last: the run may end here, so the best and worst images are looked for as well, see `extremes`.
        """
        self._showcase = Showcase(self.loader.shards, self._train.pictures)
        self.extremes = Extremes(self.loader.shards) if last else None
        amp = model.scoring_amp(self._train.amp, self._ranks.device)
        how = Inference(amp, self._data.val_size, self._data.val_side)
        averaged = ema.averaged(net) if ema is not None else contextlib.nullcontext()
        observers: list[Observer] = [self._showcase, *([self.extremes] if self.extremes else [])]
        # Whole images have their own sizes: nothing to tune for.
        with averaged, backends.autotuned(False, self._ranks.device):
            return evaluate(net, self.loader, self._ranks, how, observers, loss)

    def tell(self, found: Evaluation, step: int, tracker: Tracker) -> None:
        """Curves, panels and the confusion matrix of the last `score`. Every rank calls it."""
        sheet = self._showcase.sheet(self._ranks)
        if not self._ranks.is_main:
            return
        scores = found.scores
        if sheet is not None:
            tracker.picture(step, "val/images", sheet)
        tracker.picture(step, "val/confusion", charts.confusion_matrix(np.array(scores.matrix), self._classes))
        named = {f"iou/{name}": iou for name, iou in zip(self._classes, scores.iou, strict=True)}
        means = {name: getattr(scores, name) for name in ("miou", "pixel_accuracy", "mean_class_accuracy")}
        values = {**means, "loss": found.loss, **named}
        speed = {"images_per_second": found.images_per_second}
        tracker.scalars(step, "val", {key: value for key, value in values.items() if value is not None} | speed)
        if scores.miou is not None:
            tracker.show(step, mIoU=f"{100 * scores.miou:.2f}%")
