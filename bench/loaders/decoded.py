"""torchvision's v2 transforms on pixels decoded beforehand: what a decoded cache saves the usual loader."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset
from torchvision import tv_tensors

from bench.data.setting import Setting
from bench.loaders import torch_loader
from bench.loaders.torchvision_v2 import Sample, pixel_transform
from ingest.shards.reader import ShardSet
from pipeline.augment import Augment

LIMIT = 2 * 2**30  # bytes of pixels: of a larger split as many samples as fit are read again and again


def decoded(setting: Setting) -> Iterator[int]:
    """Decodes into a temporary file, before anything is measured, then transforms as the row `torchvision` does."""
    shards = ShardSet(setting.folder, setting.split)
    place = Path(tempfile.mkdtemp(prefix="segrail-decoded-"))
    atexit.register(shutil.rmtree, place, ignore_errors=True)
    cache = DecodedCache(shards, setting.augment, place / "pixels")
    torch.set_num_threads(1)
    yield from torch_loader.sizes(torch_loader.shuffled(cache, setting), setting)


class DecodedCache(Dataset):
    """Samples of a split, decoded into one memory-mapped file: of each image [3, H, W], label [1, H, W]."""

    def __init__(self, shards: ShardSet, augment: Augment, path: Path) -> None:
        self._path, self._transform = path, pixel_transform(augment, shards.manifest)
        self._places: list[tuple[int, int, int]] = []  # offset, height, width
        with path.open("wb") as file:
            for sample in range(len(shards)):
                image, label = _pixels(shards, sample)
                if self._places and file.tell() + image.size + label.size > LIMIT:
                    break
                self._places.append((file.tell(), *label.shape))
                file.write(image.transpose(2, 0, 1).tobytes())
                file.write(label.tobytes())
        self._bytes: np.memmap | None = None

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, sample: int) -> Sample:
        if self._bytes is None:  # opened in the worker, not sent to it
            self._bytes = np.memmap(self._path, np.uint8, mode="c")
        offset, height, width = self._places[sample]
        pixels = torch.from_numpy(self._bytes[offset : offset + 4 * height * width]).view(4, height, width)
        return self._transform(tv_tensors.Image(pixels[:3]), tv_tensors.Mask(pixels[3:]))


def _pixels(shards: ShardSet, sample: int) -> tuple[np.ndarray, np.ndarray]:
    """Image uint8 [H, W, 3] and label uint8 [H, W]."""
    image = Image.open(BytesIO(shards.image(sample).tobytes())).convert("RGB")
    return np.asarray(image), np.asarray(Image.open(BytesIO(shards.label(sample).tobytes())))
