"""albumentations in a torch DataLoader: the usual hand-written loader of today.

albumentations 2.0.8 is the last release under a free license (MIT); its successor AlbumentationsX is AGPL.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator

import albumentations as A
import cv2
import numpy as np
import torch
from albumentations.pytorch import ToTensorV2
from torch.utils.data import Dataset

from bench.data.setting import Setting
from bench.loaders import torch_loader
from ingest.shards.manifest import IGNORE, Manifest
from ingest.shards.reader import ShardSet
from pipeline.augment import Augment

Pair = tuple[torch.Tensor, torch.Tensor]


def albumentations(setting: Setting) -> Iterator[int]:
    """OpenCV decodes; resize, rotate, crop with padding, flip, blur, normalize; float32 NCHW and int64 labels."""
    dataset = Composed(ShardSet(setting.folder, setting.split), setting.augment)
    yield from torch_loader.sizes(torch_loader.shuffled(dataset, setting), setting)


class Composed(Dataset):
    """One sample of a split, augmented: image float32 [3, h, w], label int64 [h, w]."""

    def __init__(self, shards: ShardSet, augment: Augment) -> None:
        self._shards, self._transform = shards, sample_transform(augment, shards.manifest)
        cv2.setNumThreads(0)

    def __len__(self) -> int:
        return len(self._shards)

    def __getitem__(self, sample: int) -> Pair:
        image = cv2.cvtColor(_decode(self._shards.image(sample), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
        return self._transform(image, _decode(self._shards.label(sample), cv2.IMREAD_GRAYSCALE))


def _decode(file: np.ndarray, mode: int) -> np.ndarray:
    pixels = cv2.imdecode(file, mode)
    if pixels is None:
        raise ValueError("OpenCV cannot decode a file of the shards: python -m ingest verify says which")
    return pixels


def sample_transform(augment: Augment, manifest: Manifest) -> Callable[[np.ndarray, np.ndarray], Pair]:
    """(image uint8 [H, W, 3], label uint8 [H, W]) -> image float32 [3, h, w], label int64 [h, w]."""
    fill = tuple(255 * value for value in manifest.mean)
    crop = {"height": augment.crop[0], "width": augment.crop[1]}
    after: list[A.BasicTransform] = []
    if augment.rotate:
        after.append(A.Rotate((-augment.rotate, augment.rotate), fill=fill, fill_mask=IGNORE, p=1))
    after.append(A.RandomCrop(**crop, pad_if_needed=True, fill=fill, fill_mask=IGNORE))
    if augment.flip:
        after.append(A.HorizontalFlip(p=augment.flip))
    if augment.blur:
        after.append(A.GaussianBlur(sigma_limit=(0, augment.blur), p=1))
    chain = A.Compose([*after, A.Normalize(manifest.mean, manifest.std), ToTensorV2()])

    def transform(image: np.ndarray, label: np.ndarray) -> Pair:
        longer = augment.base_size or max(label.shape)
        # one resize, to a size drawn from the range: LongestMaxSize draws from a list
        low, high = (round(longer * factor) for factor in augment.scale)
        resized = _resize(low, high)(image=image, mask=label)
        found = chain(image=resized["image"], mask=resized["mask"])
        return found["image"], found["mask"].long()

    return transform


@functools.cache
def _resize(low: int, high: int) -> A.LongestMaxSize:
    return A.LongestMaxSize(max_size=list(range(low, high + 1)), p=1)
