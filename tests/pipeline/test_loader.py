"""The stream: exact whatever the ranks, threads and interruptions; evaluation sees every image once."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch

from ingest.errors import UserError
from ingest.shards.reader import ShardSet
from ingest.shards.remote.cache import Cache
from pipeline.augment import Augment
from pipeline.batch import Batch
from pipeline.loader import TrainLoader
from tests.loaders import eval_loader, train_loader
from tests.shard_folder import smooth_scene, write_shards

AUGMENT = Augment(crop=(48, 64), base_size=80)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    sizes = [(60, 80), (81, 55), (64, 64), (33, 97)]
    train = [smooth_scene(*sizes[i % 4], seed=i) for i in range(13)]
    val = [smooth_scene(*sizes[i % 4], seed=100 + i) for i in range(7)]
    test = [(image, None) for image, _ in val[:3]]
    return write_shards(tmp_path_factory.mktemp("shards"), {"train": train, "val": val, "test": test})


def loader_of(folder: Path, batch: int, **options) -> TrainLoader:
    return train_loader(ShardSet(folder, "train"), AUGMENT, batch, seed=3, **options)


def take(loader: TrainLoader, count: int) -> list[Batch]:
    return list(itertools.islice(loader, count))


def samples(batches: list[Batch]) -> list[tuple[str, bytes, bytes]]:
    return [
        (key, image.numpy().tobytes(), label.numpy().tobytes())
        for batch in batches
        for key, image, label in zip(batch.keys, batch.images, batch.labels, strict=True)
    ]


def test_batches_are_channels_last_uint8_of_the_crop_size(folder: Path) -> None:
    (batch,) = take(loader_of(folder, 4), 1)
    assert batch.images.shape == (4, 3, 48, 64) and batch.images.dtype == torch.uint8
    assert batch.images.is_contiguous(memory_format=torch.channels_last)
    assert batch.labels.shape == (4, 48, 64) and batch.labels.dtype == torch.uint8
    assert len(set(batch.keys)) == 4


@pytest.mark.parametrize("world", [2, 3])
def test_ranks_put_back_together_are_the_stream_of_one(folder: Path, world: int) -> None:
    whole = samples(take(loader_of(folder, 2 * world), 5))
    ranks = [take(loader_of(folder, 2, rank=rank, ranks=world), 5) for rank in range(world)]
    together = [sample for step in zip(*ranks, strict=True) for batch in step for sample in samples([batch])]
    assert together == whole


def test_threads_and_prefetch_do_not_change_a_pixel(folder: Path) -> None:
    reference = samples(take(loader_of(folder, 3, threads=1, prefetch=1), 6))
    assert samples(take(loader_of(folder, 3, threads=5, prefetch=4), 6)) == reference


def test_resuming_goes_on_where_it_stopped_also_with_other_ranks(folder: Path) -> None:
    whole = samples(take(loader_of(folder, 4), 8))
    first = loader_of(folder, 4)
    seen = samples(take(first, 5))
    ranks = []
    for rank in range(2):
        loader = loader_of(folder, 2, rank=rank, ranks=2)
        loader.load_state_dict(first.state_dict())
        ranks.append(take(loader, 3))
    rest = [sample for step in zip(*ranks, strict=True) for batch in step for sample in samples([batch])]
    assert seen + rest == whole


def test_an_epoch_visits_samples_once_and_epochs_differ(folder: Path) -> None:
    loader = loader_of(folder, 4)
    assert loader.steps_per_epoch == 3  # 13 samples: the last does not fill a batch
    batches = take(loader, 6)
    first, second = ([key for batch in part for key in batch.keys] for part in (batches[:3], batches[3:]))
    assert len(set(first)) == len(set(second)) == 12
    assert first != second
    assert (loader.epoch, loader.position) == (2, 0)  # of the batch to come


def test_another_seed_is_another_stream_and_its_checkpoint_is_refused(folder: Path) -> None:
    other = train_loader(ShardSet(folder, "train"), AUGMENT, 4, seed=4)
    assert samples(take(other, 1)) != samples(take(loader_of(folder, 4), 1))
    with pytest.raises(UserError, match="seed or augmentation changed"):
        other.load_state_dict(loader_of(folder, 4).state_dict())


def test_a_batch_larger_than_the_split_is_refused(folder: Path) -> None:
    with pytest.raises(UserError, match="13 samples, fewer than one global batch of 14"):
        loader_of(folder, 14)


def test_unlabeled_split_cannot_train_but_can_be_read(folder: Path) -> None:
    shards = ShardSet(folder, "test")
    with pytest.raises(UserError, match="no labels"):
        train_loader(shards, AUGMENT, 1)
    batches = list(eval_loader(shards))
    assert len(batches) == 3 and all(batch.labels is None for batch in batches)


@pytest.mark.parametrize("world", [1, 2, 3, 9])
@pytest.mark.parametrize("batch", [1, 2, 4])
def test_evaluation_sees_every_image_once(folder: Path, world: int, batch: int) -> None:
    keys = [
        key
        for rank in range(world)
        for made in eval_loader(ShardSet(folder, "val"), batch, rank=rank, ranks=world)
        for key in made.keys
    ]
    assert sorted(keys) == [f"val-{i}" for i in range(7)]


def test_evaluation_gives_the_stored_pixels(folder: Path) -> None:
    sizes = [(60, 80), (81, 55), (64, 64), (33, 97)]
    for batch in eval_loader(ShardSet(folder, "val"), 2):
        assert batch.images.is_contiguous(memory_format=torch.channels_last)
        for key, image, label in zip(batch.keys, batch.images, batch.labels, strict=True):
            number = int(key.split("-")[1])
            expected_image, expected_label = smooth_scene(*sizes[number % 4], seed=100 + number)
            np.testing.assert_array_equal(image.permute(1, 2, 0).numpy(), expected_image)
            np.testing.assert_array_equal(label.numpy(), expected_label)


def test_held_batches_keep_their_pixels(folder: Path) -> None:
    batches, copies = [], []
    for _ in range(3):
        for batch in eval_loader(ShardSet(folder, "val"), 1):
            batches.append(batch)
            copies.append(batch.images.clone())
    assert all(torch.equal(batch.images, copy) for batch, copy in zip(batches, copies, strict=True))


def test_a_damaged_image_is_named(tmp_path: Path) -> None:
    folder = write_shards(tmp_path, {"train": [smooth_scene(40, 40, i) for i in range(4)]}, ext="jpg")
    tar = folder / "train-000000.tar"
    content = bytearray(tar.read_bytes())
    start = content.find(b"train-2.jpg\0") + 512
    content[start : start + 64] = bytes(64)
    tar.write_bytes(content)
    with pytest.raises(UserError, match=r"image of sample 'train-2' in .*train-000000.tar is broken"):
        take(train_loader(ShardSet(folder, "train"), AUGMENT, 4), 1)
    with pytest.raises(UserError, match="'train-2'"):
        list(eval_loader(ShardSet(folder, "train")))


def test_truncated_or_foreign_files_are_refused_at_open(folder: Path, tmp_path: Path) -> None:
    broken = write_shards(tmp_path / "a", {"train": [smooth_scene(40, 40, i) for i in range(4)]})
    tar = broken / "train-000000.tar"
    whole = tar.read_bytes()
    tar.write_bytes(whole[:-1000])
    with pytest.raises(UserError, match=r"train-000000.tar has \d+ bytes"):
        ShardSet(broken, "train")
    tar.write_bytes(whole)
    (broken / "train-000000.idx").write_text("v1.2 4\nnonsense\n")
    with pytest.raises(UserError, match="damaged"):
        ShardSet(broken, "train")
    with pytest.raises(UserError, match="no split 'trian'; did you mean 'train'"):
        ShardSet(folder, "trian")
    with pytest.raises(UserError, match=r"has no dataset\.json"):
        ShardSet(tmp_path, "train")


@pytest.mark.parametrize("channels", [1, 4, 6])
def test_other_channel_counts_come_as_arrays(tmp_path: Path, channels: int) -> None:
    scenes = [smooth_scene(40, 50, i) for i in range(4)]
    many = [(np.concatenate([image, image[:, :, ::-1]], axis=2)[:, :, :channels], label) for image, label in scenes]
    folder = write_shards(tmp_path, {"train": many}, ext="npy")
    for batch in eval_loader(ShardSet(folder, "train"), 2):
        assert batch.images.is_contiguous(memory_format=torch.channels_last)
        for key, image in zip(batch.keys, batch.images, strict=True):
            np.testing.assert_array_equal(image.permute(1, 2, 0).numpy(), many[int(key.split("-")[1])][0])
    (batch,) = take(train_loader(ShardSet(folder, "train"), AUGMENT, 2), 1)
    assert batch.images.shape == (2, channels, 48, 64)
    if channels == 6:  # the last three are the first three, backwards; the padding has its own color
        inside = (batch.labels != 255)[:, None]
        difference = (batch.images[:, 3:].int() - batch.images[:, :3].flip(1).int()).abs() * inside
        assert difference.float().quantile(0.95) <= 1


def test_shards_behind_a_url(folder: Path, tmp_path: Path) -> None:
    shards = ShardSet(f"file://{folder}", "val", Cache(tmp_path / "cache"))
    assert shards.folder.is_relative_to(tmp_path) and shards.keys == ShardSet(folder, "val").keys
    np.testing.assert_array_equal(shards.image(3), ShardSet(folder, "val").image(3))
