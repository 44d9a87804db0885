"""The loaders that `bench.loader` compares: each yields the size of one batch after another, for ever.

All read the same shard folder and make the same augmentations (scale, rotation, crop, flip, blur) at the same crop.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BytesIO

import cv2
import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from pipeline.augment import Augment
from pipeline.feed import Feed, Request
from pipeline.graph import decode_graph
from pipeline.loader import TrainLoader
from pipeline.shards import ShardSet


@dataclass(frozen=True)
class Setting:
    """What every row is given."""

    folder: str
    split: str
    augment: Augment
    batch: int
    threads: int
    device: str


def decode(setting: Setting) -> Iterator[int]:
    """DALI decodes image and label, nothing else: the limit of any loader on these files."""
    shards = ShardSet(setting.folder, setting.split)
    backend, device_id = ("gpu", 0) if setting.device == "gpu" else ("cpu", None)
    samples = itertools.cycle(range(len(shards)))
    requests = (Request(np.array(list(itertools.islice(samples, setting.batch)))) for _ in itertools.count())
    with Feed(
        shards,
        requests,
        lambda request: (
            [shards.image(sample) for sample in request.samples],
            [shards.label(sample) for sample in request.samples],
        ),
    ) as feed:
        pipe = decode_graph(
            feed.source,
            backend,  # type: ignore[arg-type]
            setting.batch,
            setting.threads,
            2,
            device_id,
            channels=shards.manifest.channels,
        )
        for request, _ in feed.run(pipe):
            yield len(request.samples)


def ours(setting: Setting) -> Iterator[int]:
    """segrail's TrainLoader: DALI decode, one composed warp a sample, uint8 batches."""
    device = "cuda" if setting.device == "gpu" else "cpu"
    shards = ShardSet(setting.folder, setting.split)
    loader = TrainLoader(shards, setting.augment, setting.batch, device=device, threads=setting.threads)
    for batch in loader:
        yield len(batch.keys)


def opencv(setting: Setting) -> Iterator[int]:
    """The predecessor's way: a torch DataLoader whose workers go step by step in float32 with OpenCV.

    PIL decodes; longer side resized to base_size x 0.5..2, rotation on that canvas, padding, crop, flip, 3x3 blur, then
    ToTensor and Normalize; float32 NCHW batches and int64 labels.
    """
    shards = ShardSet(setting.folder, setting.split)
    loader = DataLoader(
        _StepByStep(shards, setting.augment),
        batch_size=setting.batch,
        shuffle=True,
        num_workers=setting.threads,
        drop_last=True,
        persistent_workers=True,
        pin_memory=setting.device == "gpu",
    )
    while True:
        for images, labels in loader:
            if setting.device == "gpu":
                images, labels = images.cuda(non_blocking=True), labels.cuda(non_blocking=True)
            yield len(images)


ROWS: dict[str, Callable[[Setting], Iterator[int]]] = {"decode": decode, "ours": ours, "opencv": opencv}
TITLES = {
    "decode": "DALI decode only (the limit)",
    "ours": "segrail",
    "opencv": "torch DataLoader + OpenCV, step by step",
}


class _StepByStep(Dataset):
    def __init__(self, shards: ShardSet, augment: Augment) -> None:
        self._shards, self._augment = shards, augment
        facts = shards.manifest
        self._finish = v2.Compose(
            [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(facts.mean, facts.std)]
        )
        cv2.setNumThreads(0)

    def __len__(self) -> int:
        return len(self._shards)

    def __getitem__(self, sample: int) -> tuple[torch.Tensor, torch.Tensor]:
        image = np.asarray(Image.open(BytesIO(self._shards.image(sample).tobytes())).convert("RGB"), dtype=np.float32)
        label = np.asarray(Image.open(BytesIO(self._shards.label(sample).tobytes())), dtype=np.int32)
        image, label = self._steps(image, label)
        return self._finish(image.astype(np.uint8)), torch.from_numpy(label).long()

    def _steps(self, image: np.ndarray, label: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        augment = self._augment
        height, width = label.shape
        longer = (augment.base_size or max(height, width)) * random.uniform(*augment.scale)
        ratio = longer / max(height, width)
        width, height = max(1, int(width * ratio + 0.5)), max(1, int(height * ratio + 0.5))
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
        label = cv2.resize(label, (width, height), interpolation=cv2.INTER_NEAREST)
        if augment.rotate:
            turn = cv2.getRotationMatrix2D((width / 2, height / 2), random.uniform(-1, 1) * augment.rotate, 1.0)
            image = cv2.warpAffine(image, turn, (width, height), flags=cv2.INTER_LINEAR)
            label = cv2.warpAffine(label, turn, (width, height), flags=cv2.INTER_NEAREST)
        crop_height, crop_width = augment.crop
        bottom, right = max(0, crop_height - height), max(0, crop_width - width)
        if bottom or right:
            image = cv2.copyMakeBorder(image, 0, bottom, 0, right, cv2.BORDER_CONSTANT, value=0)
            label = cv2.copyMakeBorder(label, 0, bottom, 0, right, cv2.BORDER_CONSTANT, value=0)
        top = random.randint(0, label.shape[0] - crop_height)
        left = random.randint(0, label.shape[1] - crop_width)
        image = image[top : top + crop_height, left : left + crop_width]
        label = label[top : top + crop_height, left : left + crop_width]
        if random.random() < augment.flip:
            image, label = np.fliplr(image).copy(), np.fliplr(label).copy()
        if augment.blur:
            sigma = random.uniform(0, augment.blur)
            window = int(3.3 * sigma) | 1
            image = cv2.GaussianBlur(image, (window, window), sigma, borderType=cv2.BORDER_REFLECT_101)
        return image, np.ascontiguousarray(label)
