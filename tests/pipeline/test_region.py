"""Images stored as pixels: crops are those of the same images as PNGs, from no more than the rows they look at."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from ingest.errors import UserError
from ingest.shards.reader import ShardSet
from pipeline.config import Augment, Stream
from pipeline.cpu.region import looked_at
from pipeline.feeding import Feeding
from pipeline.loader import EvalLoader, TrainLoader
from tests.shard_folder import as_schema_1, smooth_scene, write_shards

SIZES = [(150, 201), (90, 64), (300, 257), (33, 40), (400, 31), (8, 9), (1, 1), (3, 500)]


def pairs(channels: int = 3) -> list[tuple[np.ndarray, np.ndarray]]:
    scenes = [smooth_scene(*hw, seed) for seed, hw in enumerate(SIZES)]
    noise = np.random.default_rng(0)
    return [
        (noise.integers(0, 256, (*image.shape[:2], channels), dtype=np.uint8) // 2 + image[..., :1] // 2, label)
        for image, label in scenes
    ]


@pytest.mark.parametrize(
    "augment",
    [
        Augment(crop=(64, 80), base_size=120),
        Augment(crop=(32, 48), base_size=40, rotate=45),
        Augment(crop=(40, 40), base_size=600, rotate=0, blur=0),
        Augment(crop=(64, 64), base_size=0, scale=(1.0, 1.0), rotate=0, flip=1.0),
        Augment(crop=(16, 16), base_size=20, scale=(0.5, 4.0), antialias=False),
    ],
    ids=["usual", "turned", "enlarged", "plain copies", "without antialias"],
)
def test_crops_are_those_of_the_same_images_as_png(tmp_path: Path, augment: Augment) -> None:
    made = []
    for ext in ("png", "npy"):
        shards = ShardSet(write_shards(tmp_path / ext, {"train": pairs()}, schema=2, ext=ext), "train")
        assert shards.by_rows == (ext == "npy")
        made.append(
            list(itertools.islice(TrainLoader(shards, Stream(augment=augment, batch_size=4), Feeding(threads=1)), 40))
        )
    for png, raw in zip(*made, strict=True):
        assert png.keys == raw.keys
        np.testing.assert_array_equal(raw.labels.numpy(), png.labels.numpy())
        np.testing.assert_array_equal(raw.images.numpy(), png.images.numpy())


def test_a_small_crop_reads_few_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_shards(tmp_path / "s", {"train": [smooth_scene(640, 40, 0)]}, schema=2, ext="npy")
    shards, read = ShardSet(folder, "train"), []
    real = ShardSet.rows

    def rows(self: ShardSet, *words: object) -> object:
        found = real(self, *words)  # type: ignore[arg-type]
        read.append(len(found[0]))
        return found

    monkeypatch.setattr(ShardSet, "rows", rows)
    augment = Augment(crop=(64, 32), base_size=0, scale=(1.0, 1.0), rotate=0)
    list(itertools.islice(TrainLoader(shards, Stream(augment=augment, batch_size=1), Feeding(threads=1)), 20))
    assert len(read) >= 20 and max(read) <= 64 + 2 * 2 + 2 * 32


def test_whole_images_are_read_straight_into_the_batch(tmp_path: Path) -> None:
    made = []
    for ext in ("png", "npy"):
        shards = ShardSet(write_shards(tmp_path / ext, {"train": pairs()}, schema=2, ext=ext), "train")
        made.append(list(EvalLoader(shards, 2, feeding=Feeding(threads=1))))
    for png, raw in zip(*made, strict=True):
        np.testing.assert_array_equal(raw.images.numpy(), png.images.numpy())
        np.testing.assert_array_equal(raw.labels.numpy(), png.labels.numpy())


@pytest.mark.parametrize("on_bad", ["error", "skip"])
def test_damaged_rows_are_named_or_skipped(tmp_path: Path, on_bad: str) -> None:
    folder = write_shards(
        tmp_path / "s", {"train": [smooth_scene(64, 40, seed) for seed in range(2)]}, schema=2, ext="npy"
    )
    tar = folder / "train-000000.tar"
    content = bytearray(tar.read_bytes())
    content[bytes(content).index(smooth_scene(64, 40, 1)[0].tobytes()) + 3000] ^= 1
    tar.write_bytes(bytes(content))
    loader = TrainLoader(
        ShardSet(folder, "train"),
        Stream(augment=Augment(crop=(64, 64), base_size=0, scale=(1.0, 1.0), rotate=0), batch_size=2),
        Feeding(threads=1, on_bad_sample=on_bad),
    )
    if on_bad == "skip":
        (batch,) = itertools.islice(loader, 1)
        assert batch.skipped == {"train-1": "its image is broken (its bytes are not those that were ingested)"}
    else:
        with pytest.raises(UserError, match=r"the image of sample 'train-1' in .*train-000000\.tar is broken"):
            list(itertools.islice(loader, 1))
    with pytest.raises(UserError, match=r"train-1.*its bytes are not those that were ingested"):
        list(EvalLoader(ShardSet(folder, "train"), feeding=Feeding(threads=1)))


@pytest.mark.parametrize("channels", [1, 4, 5])
def test_any_number_of_channels_and_old_folders(tmp_path: Path, channels: int) -> None:
    """What is by rows in schema 2 is read whole in schema 1, which cannot check a part: the same crops."""
    made = []
    folder = write_shards(tmp_path / "s", {"train": pairs(channels)}, schema=2, ext="npy")
    for change in (lambda _: None, as_schema_1):
        change(folder)
        stream = Stream(augment=Augment(crop=(32, 40), base_size=120), batch_size=4)
        shards = ShardSet(folder, "train")
        assert shards.by_rows == (shards.manifest.schema == 2)
        made.append(list(itertools.islice(TrainLoader(shards, stream, Feeding(threads=1)), 10)))
    for one, other in zip(*made, strict=True):
        np.testing.assert_array_equal(one.images.numpy(), other.images.numpy())


def test_a_region_lies_in_the_image_and_holds_what_is_sampled() -> None:
    chance = np.random.default_rng(0)
    for _ in range(2000):
        matrix = chance.normal(0, 2, (2, 3)) * [1, 1, 100]
        hw, out = tuple(chance.integers(1, 300, 2).tolist()), tuple(chance.integers(1, 80, 2).tolist())
        factor = int(chance.choice([1, 2, 4, 8]))
        found = looked_at(matrix, out, hw, factor)
        assert 0 <= found.top < found.bottom <= hw[0] and 0 <= found.left < found.right <= hw[1]
        assert found.top % 8 == found.left % 8 == 0
        assert found.bottom in (hw[0], found.bottom // 8 * 8) and found.right in (hw[1], found.right // 8 * 8)
        y, x = chance.uniform(0, out[0] - 1), chance.uniform(0, out[1] - 1)
        at_x, at_y = matrix @ [x, y, 1]
        if 0 <= at_y <= hw[0] - 1:
            assert found.top <= np.floor(at_y) and found.bottom >= min(hw[0], np.floor(at_y) + 2)
        if 0 <= at_x <= hw[1] - 1:
            assert found.left <= np.floor(at_x) and found.right >= min(hw[1], np.floor(at_x) + 2)
