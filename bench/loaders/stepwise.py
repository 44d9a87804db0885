"""As yassouali/pytorch-segmentation does it: DataLoader workers that go step by step, in float32 OpenCV."""

from __future__ import annotations

import random
from collections.abc import Iterator
from io import BytesIO

import cv2
import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset
from torchvision.transforms import v2

from bench.data.setting import Setting
from bench.loaders import torch_loader
from ingest.shards.reader import ShardSet
from pipeline.augment import Augment
from pipeline.gpu.handover import across

Pair = tuple[torch.Tensor, torch.Tensor]


def opencv(setting: Setting) -> Iterator[int]:
    """The sizes of the batches that `batches` makes."""
    for images, _ in batches(setting):
        yield len(images)


def batches(setting: Setting) -> Iterator[Pair]:
    """Images float32 [B, 3, h, w], normalized, and labels int64 [B, h, w], on the device, epoch after epoch.

    PIL decodes; longer side resized to base_size x U(scale), rotation on that canvas, padding, crop, flip, blur, then
    ToTensor and Normalize.
    """
    shards = ShardSet(setting.folder, setting.split)
    loader = torch_loader.shuffled(StepByStep(shards, setting.augment), setting)
    device = torch.device("cuda", torch.cuda.current_device()) if setting.device == "gpu" else None
    aside = torch.cuda.Stream(device) if device else None  # as its DataPrefetcher
    while True:
        for images, labels in loader:
            if device and aside:
                images, labels = across(images, aside, device), across(labels, aside, device)
            yield images, labels


class StepByStep(Dataset):
    """One sample of a split, augmented: image float32 [3, h, w], label int64 [h, w]."""

    def __init__(self, shards: ShardSet, augment: Augment) -> None:
        self._shards, self._augment = shards, augment
        facts = shards.manifest
        self._finish = v2.Compose(
            [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(facts.mean, facts.std)]
        )
        cv2.setNumThreads(0)

    def __len__(self) -> int:
        return len(self._shards)

    def __getitem__(self, sample: int) -> Pair:
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
