"""The best and worst images: the right ones, on any number of ranks, with small pictures of them."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from ingest.shards import pictures
from ingest.shards.manifest import IGNORE
from ingest.shards.reader import ShardSet
from pipeline.batch import Batch
from tests.shard_folder import smooth_scene, write_shards
from tests.train import two_ranks
from train.distributed import Ranks
from train.evaluate import extremes

ALONE = Ranks(0, 1, 0, 1, torch.device("cpu"))


def brute_force_miou(label: np.ndarray, prediction: np.ndarray) -> float:
    """By sets of pixels, as the definition reads."""
    valid = label != IGNORE
    ious = []
    for c in range(255):
        there, guessed = (label == c) & valid, (prediction == c) & valid
        if (there | guessed).any():
            ious.append((there & guessed).sum() / (there | guessed).sum())
    return float(np.mean(ious))


def predicted(label: np.ndarray, seed: int) -> np.ndarray:
    """The label with a share of wrong pixels that depends on the seed; also where it is ignored."""
    random = np.random.default_rng(seed)
    wrong = random.random(label.shape) < random.random()
    return np.where(wrong | (label == IGNORE), random.integers(0, 5, label.shape), label).astype(np.uint8)


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> ShardSet:
    return ShardSet(_folder(tmp_path_factory.mktemp("shards")), "val")


def _folder(folder: Path) -> Path:
    return write_shards(folder, {"val": [smooth_scene(24, 32, seed) for seed in range(11)]})


def batch_of(numbers: list[int]) -> tuple[Batch, torch.Tensor]:
    pairs = [smooth_scene(24, 32, number) for number in numbers]
    images = torch.from_numpy(np.stack([image for image, _ in pairs])).permute(0, 3, 1, 2)
    labels = np.stack([label for _, label in pairs])
    guesses = np.stack([predicted(label, number) for label, number in zip(labels, numbers, strict=True)])
    return Batch(images, torch.from_numpy(labels), [f"val-{number}" for number in numbers]), torch.from_numpy(guesses)


def saved(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "extremes" / "extremes.json").read_text())


def test_the_right_images_are_kept_with_their_scores(shards: ShardSet, tmp_path: Path) -> None:
    keeper = extremes.Extremes(shards, count=3)
    for numbers in ([4, 0, 9], [1], [10, 2, 3, 8], [5, 6, 7]):
        keeper.look(*batch_of(numbers))
    keeper.save(tmp_path, ALONE)
    truth = {}
    for number in range(11):
        label = smooth_scene(24, 32, number)[1]
        truth[f"val-{number}"] = brute_force_miou(label, predicted(label, number))
    ranked = sorted(truth, key=lambda key: truth[key])
    found = saved(tmp_path)
    assert [entry["key"] for entry in found["images"]] == [*ranked[:-4:-1], *ranked[:3]]
    assert [entry["kind"] for entry in found["images"]] == ["best"] * 3 + ["worst"] * 3
    for entry in found["images"]:
        assert entry["miou"] == pytest.approx(truth[entry["key"]], abs=1e-12)
        assert np.mean(list(entry["iou"].values())) == pytest.approx(entry["miou"])
        number = int(entry["key"].split("-")[1])
        image, label = smooth_scene(24, 32, number)
        strip = np.asarray(Image.open(tmp_path / "extremes" / entry["picture"]))
        shown = {title: strip[:, left : left + width] for title, left, width in entry["columns"]}
        assert list(shown) == ["image", "label", "prediction", "error"]
        assert (shown["image"] == image).all()
        assert (shown["label"] == pictures.colorize(label, found["palette"])).all()
        assert (shown["prediction"] == pictures.colorize(predicted(label, number), found["palette"])).all()
        assert (shown["error"] == pictures.errors(label, predicted(label, number))).all()
    assert len(list((tmp_path / "extremes").glob("*.png"))) == 6
    assert not list(tmp_path.glob("*.partial"))


def test_ties_go_by_key_and_no_image_is_both_best_and_worst(shards: ShardSet, tmp_path: Path) -> None:
    batch, _ = batch_of([0, 1, 2, 3])
    assert batch.labels is not None
    perfect = torch.where(batch.labels == IGNORE, 0, batch.labels)
    for order in ([3, 1, 0, 2], [0, 1, 2, 3]):
        keeper = extremes.Extremes(shards, count=3)
        for i in order:
            keeper.look(Batch(batch.images[i : i + 1], batch.labels[i : i + 1], [batch.keys[i]]), perfect[i : i + 1])
        keeper.save(tmp_path, ALONE)
        found = saved(tmp_path)["images"]
        assert {entry["miou"] for entry in found} == {1.0} and [entry["key"] for entry in found[:3]] == [
            f"val-{i}" for i in range(3)
        ]
        assert found[3]["key"] == "val-3"
        assert [entry["kind"] for entry in found] == ["best", "best", "best", "worst"]


def test_an_image_without_valid_pixels_has_no_score_and_none_at_all_leaves_no_pictures(
    shards: ShardSet, tmp_path: Path
) -> None:
    keeper = extremes.Extremes(shards)
    batch, guesses = batch_of([0, 1])
    keeper.look(batch, guesses)
    keeper.save(tmp_path, ALONE)
    assert len(saved(tmp_path)["images"]) == 2
    keeper = extremes.Extremes(shards)
    keeper.look(Batch(batch.images, torch.full_like(guesses, IGNORE), batch.keys), guesses)
    keeper.look(Batch(batch.images, None, batch.keys), guesses)
    keeper.save(tmp_path, ALONE)
    assert saved(tmp_path)["images"] == [] and not list(tmp_path.glob("extremes/*.png"))  # the ones before are gone


def test_large_images_and_other_channel_counts_are_kept_small(shards: ShardSet, tmp_path: Path) -> None:
    for channels in (1, 2, 3, 5):
        keeper = extremes.Extremes(shards, count=1)
        images = torch.full((1, channels, 500, 2000), 7, dtype=torch.uint8)
        labels = torch.zeros((1, 500, 2000), dtype=torch.uint8)
        keeper.look(Batch(images, labels, ["val-0"]), labels)
        keeper.save(tmp_path, ALONE)
        (entry,) = saved(tmp_path)["images"]
        picture = Image.open(tmp_path / "extremes" / entry["picture"])
        assert picture.size == (4 * extremes.SIDE + 3 * extremes.GAP, 160)
        assert picture.getpixel((5, 5)) == (7, 7, 7)


def _save_own(folder: Path, rank: int) -> None:
    keeper = extremes.Extremes(ShardSet(folder / "shards", "val"), count=3)
    for number in range(rank, 11, 2):  # unequal numbers of batches
        keeper.look(*batch_of([number]))
    keeper.save(folder / "two", Ranks(rank, 2, rank, 2, torch.device("cpu")))


def test_two_ranks_find_the_same(shards: ShardSet, tmp_path: Path) -> None:
    keeper = extremes.Extremes(shards, count=3)
    keeper.look(*batch_of(list(range(11))))
    keeper.save(tmp_path / "one", ALONE)
    _folder(tmp_path / "shards")
    two_ranks.run(functools.partial(_save_own, tmp_path), tmp_path)
    one, two = tmp_path / "one" / "extremes", tmp_path / "two" / "extremes"
    assert sorted(path.name for path in one.iterdir()) == sorted(path.name for path in two.iterdir())
    for path in one.iterdir():
        assert path.read_bytes() == (two / path.name).read_bytes()
