"""A shard folder damaged anywhere: batches are those of the sound one, or an error names the file and the remedy."""

from __future__ import annotations

import itertools
import random
from pathlib import Path

import numpy as np
import pytest

from ingest.errors import UserError
from ingest.shards.reader import ShardSet
from ingest.verify import verify
from pipeline.augment import Augment
from pipeline.batch import Batch
from pipeline.config import Stream
from pipeline.feeding import Feeding
from pipeline.loader import EvalLoader, TrainLoader
from tests.shard_folder import smooth_scene, write_shards

COUNT = 6


def batches(folder: Path) -> list[Batch]:
    """Every sample once cropped and once whole."""
    shards = ShardSet(folder, "train")
    stream = Stream(augment=Augment(crop=(40, 48), base_size=60), batch_size=2)
    crops = list(itertools.islice(TrainLoader(shards, stream, Feeding(threads=1)), COUNT // 2))
    return [*crops, *EvalLoader(shards, feeding=Feeding(threads=1))]


def damaged(content: bytes, chance: random.Random) -> bytes:
    at = chance.randrange(len(content))
    kind = chance.random()
    if kind < 0.7:
        return content[:at] + bytes([content[at] ^ chance.randrange(1, 256)]) + content[at + 1 :]
    if kind < 0.8:
        return content[:at]
    if kind < 0.9:
        return content[:at] + bytes(min(700, len(content) - at)) + content[at + 700 :]
    return content[at:] + content[:at]  # as of another file


@pytest.mark.parametrize("ext", ["jpg", "png", "npy"])
@pytest.mark.parametrize("trials", [12, pytest.param(170, marks=[pytest.mark.slow, pytest.mark.timeout(900)])])
def test_sound_pixels_or_an_error(tmp_path: Path, ext: str, trials: int) -> None:
    pairs = [smooth_scene(50 + seed, 60, seed) for seed in range(COUNT)]
    folder = write_shards(tmp_path / "s", {"train": pairs}, schema=2, ext=ext, per_shard=3)
    expected, chance, refused = batches(folder), random.Random(trials), 0
    paths = sorted(folder.iterdir())
    for trial in range(trials):
        path = paths[trial % len(paths)]
        whole = path.read_bytes()
        path.write_bytes(damaged(whole, chance) or b"x")
        try:
            for made, sound in zip(batches(folder), expected, strict=True):
                assert made.keys == sound.keys
                np.testing.assert_array_equal(made.images.numpy(), sound.images.numpy())
                np.testing.assert_array_equal(made.labels.numpy(), sound.labels.numpy())
        except UserError as error:
            refused += 1
            assert "\n" not in str(error) and str(folder) in str(error), error
            assert any(word in str(error) for word in ("again", "restore", "verify", "reindex")), error
        if path.read_bytes() != whole:
            with pytest.raises(UserError):  # whatever training refuses, and more
                verify(folder)
        path.write_bytes(whole)
    assert refused > trials // 8
