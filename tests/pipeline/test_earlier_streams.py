"""Streams of recipes without the newer augmentations are those of before, to the last bit.

A checkpoint names a place in its stream, and goes on with it.
"""

from __future__ import annotations

import hashlib
import json

import cv2
import numpy as np
import pytest

from ingest.shards.reader import ShardSet
from pipeline import check
from pipeline.augment import Augment
from pipeline.config import Stream
from pipeline.loader import TrainLoader
from tests.shard_folder import smooth_scene, write_shards

SIZES = [(60, 80), (81, 55), (64, 64), (33, 97), (150, 171)]
RECIPES = {
    "default": Augment(crop=(33, 47), base_size=70),
    "downsampled": Augment(crop=(33, 47), base_size=40),
    "plain": Augment(crop=(33, 47), base_size=0, scale=(1, 1), rotate=0, flip=0, blur=0),
}
# Of the fifth batch of 4 from epoch 2 on, seed 7, as the code gave them before it had colors, turns and erasing.
BEFORE = {
    "default": {"matrices": "387f293dac651892", "images": "5e3e0d2199571137", "labels": "b18f7771fd3f4f41"},
    "downsampled": {"matrices": "52e22b088c9a6aad", "images": "ad1c97ed7696e6b9", "labels": "167c4844fe656962"},
    "plain": {"matrices": "6a7e8fb8c52d512d", "images": "dd6b363fa2daa288", "labels": "6d3e5bd9da859e9f"},
}
PIXELS_BY = "5.0.0"  # OpenCV's version then


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> ShardSet:
    scenes = [smooth_scene(*SIZES[i % 5], seed=i) for i in range(13)]
    return ShardSet(write_shards(tmp_path_factory.mktemp("earlier"), {"train": scenes}), "train")


@pytest.mark.parametrize("name", RECIPES)
def test_digests_are_those_of_before(shards: ShardSet, name: str) -> None:
    found = check.digest(shards, Stream(7, 4, augment=RECIPES[name]), 5, world=1, epoch=2, device="cpu")["batches"][-1]
    assert (found["epoch"], found["position"]) == (3, 4)
    assert found["keys"] == "f0c81c1fb5a0e1f7" and found["draws"] == "453cb356b6cedead"
    if cv2.__version__ != PIXELS_BY or np.__version__ < "2":
        pytest.skip(f"pixels and geometry are pinned for OpenCV {PIXELS_BY} and numpy 2")
    assert {part: found[part] for part in BEFORE[name]} == BEFORE[name]


def test_fingerprints_are_those_of_before_and_tell_new_keys_apart(shards: ShardSet) -> None:
    tars = [shard.sha256 for shard in shards.manifest.split("train").shards]
    for augment in RECIPES.values():
        keys = ("crop", "base_size", "scale", "rotate", "flip", "blur", "antialias")
        facts = json.dumps([tars, 7, 0, {key: getattr(augment, key) for key in keys}], sort_keys=True)
        loader = TrainLoader(shards, Stream(7, 4, augment=augment))
        assert loader.fingerprint() == hashlib.sha256(facts.encode()).hexdigest()[:16]
    changed = [Augment(gray=0.1), Augment(erase=0.1), Augment(resize="shorter"), Augment(vertical_flip=0.5), Augment()]
    assert len({TrainLoader(shards, Stream(augment=augment)).fingerprint() for augment in changed}) == 5
