"""Each weighting by hand."""

from __future__ import annotations

import math

import pytest

from ingest import stats
from ingest.errors import UserError
from ingest.reindex import reindex
from ingest.shards import manifest
from tests.shard_folder import smooth_scene, write_shards
from train.losses.class_weights import PixelCounts, describe, resolve

PIXELS = [700, 200, 100]
COUNTS = PixelCounts(PIXELS, [1000, 400, 1000])


def test_none():
    assert resolve("none", COUNTS) is None
    assert resolve("none", PixelCounts([0, 0])) is None


def test_frequency():
    weights = resolve("frequency", COUNTS)
    assert weights == pytest.approx([1 / (3 * 0.7), 1 / (3 * 0.2), 1 / (3 * 0.1)])
    assert sum(w * p for w, p in zip(weights, [0.7, 0.2, 0.1], strict=True)) == pytest.approx(1)


def test_median_frequency():
    """Shares among the pixels of the images that show the class: 0.7, 0.5 and 0.1."""
    assert resolve("median_frequency", COUNTS) == pytest.approx([0.5 / 0.7, 1.0, 5.0])


def test_median_frequency_needs_the_images():
    with pytest.raises(UserError, match=r"loss.class_weights = 'median_frequency'.*python -m ingest reindex DIR"):
        resolve("median_frequency", PixelCounts(PIXELS))


def test_stats_and_training_say_the_same(tmp_path):
    """One truth; and the share is among the classes that are there."""
    shards = write_shards(tmp_path, {"train": [smooth_scene(24, 32, seed) for seed in range(3)]}, num_classes=7)
    reindex(shards)
    split = manifest.load(shards).split("train")
    assert split.class_pixels[-1] == 0, "a class that never occurs"
    found = stats.measure(shards, "train").classes
    counts = PixelCounts(split.class_pixels, split.class_image_pixels)
    assert [one.inverse_weight for one in found] == resolve("frequency", counts)
    assert [one.median_weight for one in found] == resolve("median_frequency", counts)
    shares = [pixels / sum(split.class_pixels) for pixels in split.class_pixels]
    assert sum(share * one.inverse_weight for share, one in zip(shares, found, strict=True)) == pytest.approx(1)


def test_enet():
    assert resolve("enet", COUNTS) == pytest.approx([1 / math.log(1.02 + p) for p in (0.7, 0.2, 0.1)])


@pytest.mark.parametrize("spec", ["frequency", "median_frequency", "enet"])
def test_absent_classes_weigh_nothing_and_change_nothing(spec):
    weights = resolve(spec, PixelCounts([*PIXELS, 0], [*COUNTS.per_class_images, 0]))
    assert weights[3] == 0 and weights[:3] == resolve(spec, COUNTS)


def test_list():
    assert resolve([1, 2, 0], COUNTS) == [1.0, 2.0, 0.0]


def test_describe_names_the_absent():
    line = describe([1.0, 0.25, 0.0], ["road", "tree", "train"], [5, 20, 0])
    assert line == "class weights: road 1, tree 0.25, train 0; without a pixel in the training split: train"


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("enett", "did you mean 'enet'"),
        ([1, 2], "has 2 weights, the dataset has 3 classes"),
        ([1, -2, 1], r"loss.class_weights\[1\] = -2"),
        ([1, float("inf"), 1], r"loss.class_weights\[1\] = inf"),
        ([0, 0, 0], "all 0"),
        ([], r"loss.class_weights = \[\]"),
    ],
)
def test_mistakes(spec, message):
    with pytest.raises(UserError, match=message):
        resolve(spec, COUNTS)


def test_unlabeled_split():
    with pytest.raises(UserError, match="no labeled pixel"):
        resolve("enet", PixelCounts([0, 0, 0]))
