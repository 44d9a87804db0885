"""The `webdataset` library and torchvision's v2 transforms in a torch DataLoader."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

import torch
import webdataset
from PIL import Image
from torch.utils.data import DataLoader
from torchvision import tv_tensors
from torchvision.transforms import InterpolationMode, v2

from bench.data.setting import Setting
from bench.loaders import torch_loader
from ingest.shards.manifest import IGNORE, Manifest
from ingest.shards.reader import ShardSet
from pipeline.augment import Augment


def torchvision(setting: Setting) -> Iterator[int]:
    """PIL decodes; resize, rotate, crop with padding, flip, blur, normalize; float32 NCHW and int64 labels."""
    shards = ShardSet(setting.folder, setting.split)
    manifest = shards.manifest
    tars = [str(shards.folder / f"{shard.name}.tar") for shard in manifest.split(setting.split).shards]
    # resampled: an endless stream in which every worker draws shards, also where there are fewer shards than workers
    dataset = (
        webdataset.WebDataset(tars, resampled=True)
        .shuffle(min(256, len(shards)))
        .decode("pil")
        .to_tuple("jpg;png", "seg.png")
        .map(sample_transform(setting.augment, manifest))
    )
    torch.set_num_threads(1)
    loader = DataLoader(
        dataset,
        batch_size=setting.batch,
        num_workers=setting.threads,
        drop_last=True,
        pin_memory=setting.device == "gpu",
    )
    yield from torch_loader.sizes(loader, setting)


Sample = tuple[torch.Tensor, torch.Tensor]


def sample_transform(augment: Augment, manifest: Manifest) -> Callable[[tuple[Image.Image, Image.Image]], Sample]:
    """(PIL image, PIL label) -> image float32 [3, h, w], label int64 [h, w]."""
    transform = pixel_transform(augment, manifest)

    def of_files(pair: tuple[Image.Image, Image.Image]) -> Sample:
        return transform(tv_tensors.Image(pair[0].convert("RGB")), tv_tensors.Mask(pair[1]))

    return of_files


def pixel_transform(augment: Augment, manifest: Manifest) -> Callable[[tv_tensors.Image, tv_tensors.Mask], Sample]:
    """(image uint8 [3, H, W], label uint8 [1, H, W]) -> image float32 [3, h, w], label int64 [h, w]."""
    # torchvision's type for this option knows no fill per kind of input, its documentation does
    fill: Any = {tv_tensors.Image: [255 * value for value in manifest.mean], tv_tensors.Mask: IGNORE}
    steps: list[Any] = []
    if augment.rotate:
        steps.append(v2.RandomRotation([-augment.rotate, augment.rotate], InterpolationMode.BILINEAR, fill=fill))
    steps.append(v2.RandomCrop(augment.crop, pad_if_needed=True, fill=fill))
    if augment.flip:
        steps.append(v2.RandomHorizontalFlip(augment.flip))
    if augment.blur:
        steps.append(v2.GaussianBlur(5, (0.01, max(augment.blur, 0.02))))
    to_float = v2.ToDtype({tv_tensors.Image: torch.float32, tv_tensors.Mask: torch.int64, "others": None}, scale=True)
    chain = v2.Compose([*steps, to_float, v2.Normalize(manifest.mean, manifest.std)])

    def transform(image: tv_tensors.Image, label: tv_tensors.Mask) -> Sample:
        height, width = image.shape[-2:]
        longer = (augment.base_size or max(height, width)) * random.uniform(*augment.scale)
        ratio = longer / max(height, width)
        size = [max(1, int(height * ratio + 0.5)), max(1, int(width * ratio + 0.5))]
        image = v2.functional.resize(image, size, antialias=False)
        label = v2.functional.resize(label, size, InterpolationMode.NEAREST)
        image, label = chain(image, label)
        return image.as_subclass(torch.Tensor), label.as_subclass(torch.Tensor).squeeze(0)

    return transform
