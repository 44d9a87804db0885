"""One image: shown to the net whole or window by window, its scores kept no longer than they are needed."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ingest.shards import atomic
from ingest.shards.manifest import IGNORE
from train.predict.raw import Scene
from train.predict.streamed import lanes_of, streamed
from train.predict.windows import Inference, scaled_size, segment

Array = NDArray[np.uint8]

MOST_WHOLE = 6_000_000  # pixels: larger images are done in windows, where nothing else is asked for


@dataclass(frozen=True)
class Labeler:
    """A net, and how it is asked."""

    net: nn.Module
    device: torch.device
    how: Inference
    window: tuple[int, int]
    """Of images that are too large to be taken whole, where `how` names none."""
    classes: int
    fingerprint: str
    """Names the checkpoint: an interrupted scene goes on only with the same one."""

    def method(self, size: tuple[int, int], auto: bool) -> Inference:
        """How an image of that size is done. auto: in windows where what the net sees is too large to be one."""
        height, width = scaled_size(*size, self.how.size, self.how.side)
        if auto and self.how.window is None and height * width > MOST_WHOLE:
            return replace(self.how, window=self.window)
        return self.how


@torch.inference_mode()
def whole(
    labeler: Labeler, image: Array, how: Inference, probabilities: bool
) -> tuple[Array, NDArray[np.float16] | None]:
    """An image uint8 [H, W, C] -> (class ids uint8 [H, W], probabilities float16 [K, H, W] where they are wanted)."""
    height, width = image.shape[:2]
    if height * width > MOST_WHOLE and not probabilities:
        return _in_memory(labeler, image, how), None
    images = _tensor(image, labeler.device)
    logits = segment(labeler.net, images, how)
    mask = logits.argmax(dim=1)[0].to(torch.uint8).cpu().numpy()
    if not probabilities:
        return mask, None
    return mask, logits.float().softmax(dim=1)[0].half().cpu().numpy()


def _in_memory(labeler: Labeler, image: Array, how: Inference) -> Array:
    """The class ids of a large image, whose scores are not all held at once."""
    size = image.shape[0], image.shape[1]

    def read(y: int, x: int, rows: int, columns: int) -> Tensor:
        return _tensor(image[y : y + rows, x : x + columns], labeler.device)

    mask = np.empty(size, np.uint8)
    for left, right in lanes_of(size, how, labeler.classes):
        for y, logits in streamed(read, size, labeler.net, how, (left, right)):
            mask[y : y + logits.shape[2], left:right] = logits.argmax(dim=1)[0].to(torch.uint8).cpu().numpy()
    return mask


@torch.inference_mode()
def in_windows(labeler: Labeler, scene: Scene, how: Inference, work: Path, tell: Callable[[int], None]) -> Array:
    """A scene of any size -> class ids uint8 [H, W], as a file in memory's place, 255 where it has no data.

    work: a folder for the unfinished mask; a run that is interrupted goes on there after the last row of windows that
    it finished. tell: is called with the number of pixels done. The caller removes `work`.
    """
    height, width = scene.size
    mask, done = _unfinished(work, labeler, (height, width), how)

    def read(y: int, x: int, rows: int, columns: int) -> Tensor:
        return _tensor(scene.read(y, x, rows, columns)[0], labeler.device)

    for left, right in lanes_of(scene.size, how, labeler.classes):
        first = done.get(str(left), 0)
        tell((right - left) * first)
        for y, logits in streamed(read, scene.size, labeler.net, how, (left, right), first):
            ids = logits.argmax(dim=1)[0].to(torch.uint8).cpu().numpy()
            rows, columns = ids.shape
            valid = scene.read(y, left, rows, columns)[1] if scene.lacks else None
            mask[y : y + rows, left:right] = ids if valid is None else np.where(valid, ids, IGNORE)
            done[str(left)] = y + rows
            mask.flush()
            atomic.write_json(work / "done.json", {"of": _named(labeler, (height, width), how), "rows": done})
            tell(rows * columns)
    return mask


def _unfinished(
    work: Path, labeler: Labeler, size: tuple[int, int], how: Inference
) -> tuple[np.memmap, dict[str, int]]:
    """The mask's file and, per lane, the rows that are done; begun anew unless it is of the same net and method."""
    path = work / "mask.npy"
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        before = json.loads((work / "done.json").read_text())
        if before["of"] == _named(labeler, size, how):
            return np.lib.format.open_memmap(path, "r+"), {str(k): int(v) for k, v in before["rows"].items()}
    work.mkdir(parents=True, exist_ok=True)
    mask = np.lib.format.open_memmap(path, "w+", np.uint8, size)
    try:
        with open(path, "r+b") as file:  # room is taken now: a full disk shows before the work, not after
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    except OSError as error:
        shutil.rmtree(work, ignore_errors=True)
        raise OSError(error.errno, error.strerror, str(path)) from error
    return mask, {}


def _named(labeler: Labeler, size: tuple[int, int], how: Inference) -> str:
    return hashlib.sha256(repr((labeler.fingerprint, size, how)).encode()).hexdigest()[:16]


def _tensor(image: Array, device: torch.device) -> Tensor:
    """uint8 [H, W, C] -> [1, C, H, W], channels last."""
    return torch.from_numpy(np.ascontiguousarray(image))[None].permute(0, 3, 1, 2).to(device, non_blocking=True)
