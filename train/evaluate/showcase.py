"""Contact sheets of image | label | prediction | error, of samples spread evenly over a split."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from ingest.shards import pictures
from ingest.shards.pictures import Array, Cell, Panel
from ingest.shards.reader import ShardSet
from pipeline.batch import Batch
from train.distributed import Ranks
from train.evaluate.metrics import image_scores, mean

TITLES = ("image", "label", "prediction", "error (dark: right)")


@dataclass(frozen=True)
class _Kept:
    """One sample: image uint8 [H, W, 3], label and prediction uint8 [H, W], and its own mIoU."""

    image: Array
    label: Array
    prediction: Array
    miou: float | None


class Showcase:
    """Keeps some samples of a split, with what is predicted for them, as the batches pass."""

    wants_confidence = False

    def __init__(self, shards: ShardSet, count: int) -> None:
        self._facts = shards.manifest
        chosen = np.unique(np.linspace(0, len(shards) - 1, min(count, len(shards))).round().astype(int))
        self._order = [shards.keys[sample] for sample in chosen]
        self._kept: dict[str, _Kept] = {}

    def look(self, batch: Batch, predictions: torch.Tensor, confidence: torch.Tensor | None = None) -> None:
        """Keeps the chosen ones of a batch; the others are not even copied to the host."""
        wanted = set(self._order)
        for i, key in enumerate(batch.keys):
            if key in wanted and batch.labels is not None:
                image = pictures.rgb(batch.images[i].permute(1, 2, 0).cpu().numpy())
                label, prediction = batch.labels[i].cpu(), predictions[i].cpu()
                (iou,) = image_scores(prediction[None], label[None], self._facts.num_classes)
                self._kept[key] = _Kept(image, label.numpy(), prediction.numpy(), mean(iou.values()))

    def sheet(self, ranks: Ranks, side: int = 256) -> Array | None:
        """The contact sheet of all ranks' samples, uint8 [H, W, 3]; None where none passed.

        Collective: every rank calls it.
        """
        parts = ranks.gather(self._kept)
        kept = {key: one for part in parts for key, one in part.items()}
        if not kept:
            return None
        facts = self._facts
        counts: NDArray[np.int64] = np.zeros(256, np.int64)
        for one in kept.values():
            counts += np.bincount(one.label.ravel(), minlength=256) + np.bincount(one.prediction.ravel(), minlength=256)
        entries = pictures.class_entries(facts.classes, facts.palette, counts[: facts.num_classes].tolist())
        entries += [*pictures.ERRORS, pictures.ignored_entry()]
        cells = [self._cell(key, kept[key]) for key in self._order if key in kept]
        return pictures.contact_sheet(cells, TITLES, entries, side)

    def _cell(self, key: str, one: _Kept) -> Cell:
        palette = self._facts.palette
        panels = [
            Panel(one.image),
            Panel(pictures.colorize(one.label, palette), flat=True),
            Panel(pictures.colorize(one.prediction, palette), flat=True),
            Panel(pictures.errors(one.label, one.prediction), flat=True),
        ]
        score = "no labeled pixels" if one.miou is None else f"mIoU {100 * one.miou:.1f}%"
        return Cell(panels, [f"{key}   {score}"])
