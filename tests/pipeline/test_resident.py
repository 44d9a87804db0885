"""Crops from images that stay decoded on the device, here a CPU, against the CPU device's."""

from __future__ import annotations

import contextlib
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from ingest.errors import UserError
from ingest.shards.reader import ShardSet
from pipeline.augment import Augment
from pipeline.batch import Batch
from pipeline.config import DataConfig
from pipeline.feeding import Feeding, for_split, of_recipe
from pipeline.gpu import resident, sampling
from pipeline.loader import TrainLoader
from tests.loaders import train_loader
from tests.shard_folder import smooth_scene, write_shards

SIZES = [(60, 80), (81, 55), (64, 64), (33, 97), (150, 171)]
PLAIN = Augment(crop=(48, 64), base_size=60)
EVERYTHING = Augment(
    crop=(48, 64), base_size=60, brightness=0.125, contrast=0.5, saturation=0.5, hue=36.0, gray=0.1,
    vertical_flip=0.5, quarter_turns=0.5, erase=0.5,
)  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    scenes = [smooth_scene(*SIZES[i % 5], seed=i) for i in range(20)]
    return write_shards(tmp_path_factory.mktemp("resident"), {"train": scenes}, schema=2)


def first(loader: TrainLoader, count: int) -> list[Batch]:
    with contextlib.closing(iter(loader)) as batches:
        return list(islice(batches, count))


@pytest.mark.parametrize("augment", [PLAIN, EVERYTHING], ids=["plain", "everything"])
def test_crops_are_those_of_the_cpu_device(folder: Path, augment: Augment) -> None:
    shards = ShardSet(folder, "train")
    mine, theirs = (first(train_loader(shards, augment, 4, resident=on), 10) for on in (True, False))
    gaps, labels = [], []
    for one, other in zip(mine, theirs, strict=True):
        assert one.keys == other.keys and one.images.shape == other.images.shape
        assert one.images.is_contiguous(memory_format=torch.channels_last)
        gaps.append((one.images.int() - other.images.int()).abs().flatten())
        assert one.labels is not None and other.labels is not None and one.labels.dtype == torch.uint8
        labels.append((one.labels != other.labels).float().mean().item())
    gap = torch.cat(gaps).numpy()
    assert np.quantile(gap, 0.98) <= 4 and gap.mean() < 1 and np.mean(labels) < 0.01


def test_downsampled_levels_are_used(folder: Path) -> None:
    augment = Augment(crop=(32, 32), base_size=30)
    shards = ShardSet(folder, "train")
    mine, theirs = (first(train_loader(shards, augment, 4, resident=on), 5) for on in (True, False))
    gap = torch.cat([(a.images.int() - b.images.int()).abs().flatten() for a, b in zip(mine, theirs, strict=True)])
    assert gap.float().mean() < 1
    store = resident.load(shards, 3, Feeding(), torch.device("cpu"))
    assert store.hw[4].tolist() == [[150, 171], [75, 86], [38, 43]]


def test_blur_and_erasing_by_opencv() -> None:
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (3, 20, 31, 3), np.uint8)
    sigmas = np.array([0.0, 0.6, 1.7])
    found = sampling.blurred(torch.from_numpy(images), sigmas).numpy()
    np.testing.assert_array_equal(found[0], images[0])
    for i in (1, 2):
        radius = sampling.blur_radius(sigmas[i])
        window = (2 * radius + 1, 2 * radius + 1)
        expected = cv2.GaussianBlur(images[i], window, sigmas[i], borderType=cv2.BORDER_REFLECT_101)
        assert radius and np.abs(found[i].astype(int) - expected).max() <= 1
    boxes = np.array([[0, 0, 0, 0], [2, 3, 4, 5], [0, 30, 20, 1]])
    erased = sampling.erased(torch.from_numpy(images), torch.from_numpy(boxes), [1, 2, 3]).numpy()
    expected = images.copy()
    expected[1, 2:6, 3:8], expected[2, :, 30] = [1, 2, 3], [1, 2, 3]
    np.testing.assert_array_equal(erased, expected)


def test_a_damaged_sample_is_an_error_or_counts_for_nothing(folder: Path, tmp_path: Path) -> None:
    scenes = [smooth_scene(40, 56, seed) for seed in range(8)]
    shards_at = write_shards(tmp_path / "bad", {"train": scenes})
    tar = shards_at / "train-000001.tar"
    sound = tar.read_bytes()
    at = sound.index(b"IDAT")
    tar.write_bytes(sound[: at + 4] + bytes(196) + sound[at + 200 :])
    shards = ShardSet(shards_at, "train")
    with pytest.raises(UserError, match=r"the image of sample 'train-4' in .* is broken"):
        first(train_loader(shards, PLAIN, 4, resident=True), 1)
    batches = first(train_loader(shards, PLAIN, 4, resident=True, on_bad_sample="skip"), 2)
    (skipped,) = [(batch, i) for batch in batches for i, key in enumerate(batch.keys) if key in batch.skipped]
    batch, i = skipped
    assert batch.labels is not None and (batch.labels[i] == 255).all() and len(batch.images[i].unique()) <= 3


def test_a_net_on_a_cpu_refuses_it(folder: Path) -> None:
    feeding = of_recipe(DataConfig(cache="gpu"), torch.device("cpu"))
    with pytest.raises(UserError, match=r"data\.cache = gpu, but the net is on the CPU: use data.cache=none"):
        for_split(feeding, "auto", ShardSet(folder, "train"))


def test_a_split_that_does_not_fit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (10 * 10**9, 80 * 10**9))
    resident._check_room(6 * 10**9, torch.device("cuda", 0))
    with pytest.raises(UserError, match=r"takes 8.0 GB, and cuda:0 has 10.0 GB free.* data.cache=none"):
        resident._check_room(8 * 10**9, torch.device("cuda", 0))


@pytest.mark.gpu
def test_the_same_on_a_gpu(folder: Path) -> None:
    shards = ShardSet(folder, "train")
    mine = first(train_loader(shards, EVERYTHING, 4, resident=True, device="cuda"), 10)
    theirs = first(train_loader(shards, EVERYTHING, 4, resident=True), 10)
    for one, other in zip(mine, theirs, strict=True):
        assert (one.images.cpu().int() - other.images.int()).abs().float().mean() < 0.1
