"""What the summary of an ingest says beside its table."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from ingest.report import summary
from ingest.shards import manifest
from tests.shard_folder import smooth_scene, write_shards


@pytest.mark.parametrize(
    ("image_format", "side", "bytes_a_pixel", "told"),
    [("keep", 2000, 1.0, True), ("keep", 2000, 0.25, False), ("keep", 500, 1.0, False), ("png", 2000, 1.1, False)],
)
def test_large_pngs_as_published_get_advice(
    tmp_path: Path, image_format: str, side: int, bytes_a_pixel: float, told: bool
) -> None:
    facts = manifest.load(write_shards(tmp_path, {"train": [smooth_scene(20, 20, 0)]}))
    split = facts.splits["train"]
    shard = dataclasses.replace(split.shards[0], bytes=int(side * side * bytes_a_pixel))
    split = dataclasses.replace(split, shards=[shard], image_size={"median": [side, side]})
    facts = dataclasses.replace(facts, splits={"train": split}, options={"image_format": image_format})
    assert ("--image-format png" in summary(facts, {})) == told
