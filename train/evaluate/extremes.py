"""The images that a net does best and worst on, found as an evaluation passes by."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from ingest.shards import atomic, pictures
from ingest.shards.reader import ShardSet
from pipeline.batch import Batch
from train.distributed import Ranks
from train.evaluate.metrics import image_scores, mean

Array = NDArray[np.uint8]

FOLDER, FILE = "extremes", "extremes.json"
TITLES = ("image", "label", "prediction", "error")
SIDE = 640  # longest side of a kept picture, pixels: bounds the memory, and the report's size
GAP = 4  # between the pictures of a strip, pixels


@dataclass
class _Scored:
    """One image: its mIoU, the IoU of each class that it shows, and (image [H,W,3], label, prediction [H,W]), small."""

    key: str
    miou: float
    iou: dict[int, float]
    kept: tuple[Array, Array, Array] | None = None


class Extremes:
    """Keeps the `count` best and worst images by their own mIoU, with pictures of them, as batches pass.

    An image's mIoU is the mean IoU over the classes in its label or its prediction, ignored pixels left out; an image
    without a valid pixel has none. The mean of these is not the split's mIoU, whose IoUs are over all images at once:
    they say which image to look at. Memory: 2 x count pictures of at most SIDE x SIDE, whatever the split's size.
    """

    wants_confidence = False

    def __init__(self, shards: ShardSet, count: int = 3) -> None:
        self._facts, self._count = shards.manifest, count
        self._best: list[_Scored] = []
        self._worst: list[_Scored] = []

    def look(self, batch: Batch, predictions: Tensor, confidence: Tensor | None = None) -> None:
        """Scores a batch's images (predictions: uint8 [N,H,W]): one transfer to the host, more only for those kept."""
        if batch.labels is None:
            return
        labels = batch.labels.to(predictions.device, non_blocking=True)
        scores = image_scores(predictions, labels, self._facts.num_classes)
        for i, (key, iou) in enumerate(zip(batch.keys, scores, strict=True)):
            miou = mean(iou.values())
            if miou is None:
                continue
            scored = _Scored(key, miou, iou)
            self._best = sorted([*self._best, scored], key=_best_first)[: self._count]
            self._worst = sorted([*self._worst, scored], key=_best_first, reverse=True)[: self._count]
            if any(scored is other for other in (*self._best, *self._worst)):
                scored.kept = _small(batch.images[i], labels[i], predictions[i])

    def save(self, folder: Path, ranks: Ranks) -> None:
        """Writes <folder>/extremes/: a PNG strip an image, and extremes.json. Every rank calls it; the main one writes.

        The same images on any number of ranks: all stand in one order, by score and, of equals, by key, and the two
        ends of it are shown; what is among the best is not among the worst as well. Only the chosen pictures travel
        between ranks. Raises OSError, on the main rank alone and after the last exchange.
        """
        own = {scored.key: scored for scored in (*self._best, *self._worst)}
        parts = ranks.gather([(scored.key, scored.miou) for scored in own.values()])
        offers = [_Scored(key, miou, {}) for part in parts for key, miou in part]
        order = [scored.key for scored in sorted(offers, key=_best_first)]
        best = order[: self._count]
        worst = order[len(best) :][::-1][: self._count]
        strips = {key: (own[key].miou, own[key].iou, self._strip(own[key])) for key in (*best, *worst) if key in own}
        found = {key: strip for part in ranks.gather(strips) for key, strip in part.items()}
        if not ranks.is_main:
            return
        entries, files = [], {}
        for kind, keys in (("best", best), ("worst", worst)):
            for place, key in enumerate(keys, start=1):
                miou, iou, (png, columns) = found[key]
                name = f"{kind}-{place}-{key}.png"
                files[name] = png
                named = {self._facts.classes[c]: value for c, value in iou.items()}
                entries.append(
                    {"key": key, "miou": miou, "kind": kind, "picture": name, "columns": columns, "iou": named}
                )
        facts = {"classes": self._facts.classes, "palette": self._facts.palette, "images": entries}
        atomic.replace_folder(folder / FOLDER, files | {FILE: (json.dumps(facts, indent=1) + "\n").encode()})

    def _strip(self, scored: _Scored) -> tuple[bytes, list[list[str | int]]]:
        """A PNG of the four pictures side by side, and where each lies: [title, left, width]."""
        assert scored.kept is not None
        image, label, prediction = scored.kept
        palette = self._facts.palette
        panels = [
            image,
            pictures.colorize(label, palette),
            pictures.colorize(prediction, palette),
            pictures.errors(label, prediction),
        ]
        height, width = label.shape
        lefts = [number * (width + GAP) for number in range(len(panels))]
        strip = np.full((height, lefts[-1] + width, 3), 255, dtype=np.uint8)
        for left, panel in zip(lefts, panels, strict=True):
            strip[:, left : left + width] = panel
        buffer = io.BytesIO()
        Image.fromarray(strip).save(buffer, "PNG")
        return buffer.getvalue(), [[title, left, width] for title, left in zip(TITLES, lefts, strict=True)]


def _best_first(scored: _Scored) -> tuple[float, str]:
    return -scored.miou, scored.key


def _small(image: Tensor, label: Tensor, prediction: Tensor) -> tuple[Array, Array, Array]:
    """uint8 [C,H,W], [H,W], [H,W] on the device -> RGB [h,w,3] and class ids [h,w] on the host, at most SIDE long."""
    pixels = pictures.rgb(image.permute(1, 2, 0).cpu().numpy())
    height, width = label.shape
    scale = min(1.0, SIDE / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    small = cv2.resize(np.ascontiguousarray(pixels), size, interpolation=cv2.INTER_AREA)
    # nearest: interpolating class ids invents classes
    ids = [cv2.resize(each.cpu().numpy(), size, interpolation=cv2.INTER_NEAREST) for each in (label, prediction)]
    return small, ids[0], ids[1]
