"""What the page shows: a split's samples with what a net predicts for them, labeled one after another in a thread."""

from __future__ import annotations

import io
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from ingest.errors import UserError
from ingest.shards import pictures
from ingest.shards.manifest import IGNORE
from ingest.shards.reader import ShardSet
from pipeline import decode
from train.evaluate.metrics import image_scores, mean
from train.predict import scene
from train.predict.raw import Reader
from train.predict.scene import Labeler

Array = NDArray[np.uint8]

KINDS = ("small", "image", "label", "prediction", "error")
_SMALL = 192, 128  # most width and height of a picture in the list, pixels
_KEPT = 64  # samples whose pixels are kept
_PAIRS = 12  # confusions listed for a sample: those with the most pixels


class Gallery:
    """Thread-safe: one lock around the net, since it is asked by the page and by the thread that goes through all.

    What is known already, images and labels never wait for the net.
    """

    def __init__(self, shards: ShardSet, labeler: Labeler, reader: Reader, facts: Mapping[str, Any]) -> None:
        self.shards, self.facts = shards, facts
        self._labeler, self._reader = labeler, reader
        self._net, self._lock, self._stop = threading.Lock(), threading.Lock(), threading.Event()
        self._kept: OrderedDict[int, tuple[Array, Array | None, Array]] = OrderedDict()
        self._scores: dict[int, dict[str, Any]] = {}

    def start(self) -> threading.Thread:
        """Goes through all samples in the background, so that they can be sorted and filtered."""
        thread = threading.Thread(target=self._go_through, daemon=True)
        thread.start()
        return thread

    def stop(self) -> None:
        """Ends the thread after the sample that it is at."""
        self._stop.set()

    def samples(self) -> list[dict[str, Any]]:
        """Of every sample its number, key and, once it was labeled, its mIoU, IoU per class and confusions."""
        with self._lock:
            known = dict(self._scores)
        return [{"i": i, "key": key, **known.get(i, {})} for i, key in enumerate(self.shards.keys)]

    def picture(self, sample: int, kind: str) -> bytes:
        """A PNG of one of KINDS. KeyError where there is none; UserError for a broken sample."""
        if not 0 <= sample < len(self.shards) or kind not in KINDS:
            raise KeyError(kind)
        if kind in ("label", "error") and not self.shards.labeled:
            raise KeyError(kind)
        if kind in ("small", "image", "label"):
            image, label = (self._known(sample) or _read(self.shards, sample))[:2]
            if label is not None and kind == "label":
                return png(pictures.colorize(label, self.facts["palette"]))
            shown = pictures.rgb(image)
            return png(_reduced(shown) if kind == "small" else shown)
        _, label, prediction = self._labeled(sample)
        if label is not None and kind == "error":
            return png(pictures.errors(label, prediction))
        return png(pictures.colorize(prediction, self.facts["palette"]))

    def segment(self, data: bytes) -> tuple[bytes, bytes, list[float]]:
        """An image file -> (PNG of the image, PNG of the classes, each class's share). UserError where it is none."""
        with tempfile.NamedTemporaryFile(prefix="segrail-view-") as file:
            file.write(data)
            file.flush()
            try:
                pixels = self._reader.read(Path(file.name)).pixels
            except UserError as error:
                raise UserError(str(error).replace(file.name, "the file")) from error
        with self._net:
            mask, _ = scene.whole(self._labeler, pixels, self._labeler.method(pixels.shape[:2], True), False)
        shares = np.bincount(mask.ravel(), minlength=len(self.facts["classes"])) / mask.size
        return png(pictures.rgb(pixels)), png(pictures.colorize(mask, self.facts["palette"])), shares.tolist()

    def _go_through(self) -> None:
        for sample in range(len(self.shards)):
            if self._stop.is_set():
                return
            try:
                self._labeled(sample)
            except UserError as error:
                with self._lock:
                    self._scores[sample] = {"failed": str(error)}

    def _known(self, sample: int) -> tuple[Array, Array | None, Array] | None:
        with self._lock:
            if sample in self._kept:
                self._kept.move_to_end(sample)
            return self._kept.get(sample)

    def _labeled(self, sample: int) -> tuple[Array, Array | None, Array]:
        with self._net:
            if known := self._known(sample):
                return known
            image, label = _read(self.shards, sample)
            mask, _ = scene.whole(self._labeler, image, self._labeler.method(image.shape[:2], True), False)
            scores = _scores(label, mask, len(self.facts["classes"]))
            with self._lock:
                self._kept[sample] = image, label, mask
                while len(self._kept) > _KEPT:
                    self._kept.popitem(last=False)
                self._scores[sample] = scores
            return image, label, mask


def _scores(label: Array | None, mask: Array, classes: int) -> dict[str, Any]:
    if label is None:
        counts = np.bincount(mask.ravel(), minlength=classes)
        return {"miou": None, "iou": {int(c): None for c in np.flatnonzero(counts)}, "pairs": []}
    (iou,) = image_scores(torch.from_numpy(mask)[None], torch.from_numpy(label)[None], classes)
    wrong = (label != mask) & (label != IGNORE)
    counts = np.bincount(label[wrong].astype(np.int64) * 256 + mask[wrong], minlength=1)
    order = np.argsort(-counts, kind="stable")[:_PAIRS]
    pairs = [[*divmod(int(code), 256), int(counts[code])] for code in order if counts[code]]
    return {"miou": mean(iou.values()), "iou": iou, "pairs": pairs}


def _read(shards: ShardSet, sample: int) -> tuple[Array, Array | None]:
    try:
        # copies: the decoder's memory is used again
        image = np.array(decode.image(shards.image(sample)))
        label = np.array(decode.label(shards.label(sample))) if shards.labeled else None
    except decode.DecodeError as error:
        raise UserError(f"{shards.keys[sample]} in {shards.shard_of(sample)} is broken ({error})") from error
    return image, label


def _reduced(image: Array) -> Array:
    """At most _SMALL, uint8 [h, w, 3]."""
    picture = Image.fromarray(np.ascontiguousarray(image))
    picture.thumbnail(_SMALL)
    return np.asarray(picture)


def png(pixels: Array) -> bytes:
    """uint8 [H, W, 3] -> a PNG, packed quickly: it goes no further than this machine."""
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()
