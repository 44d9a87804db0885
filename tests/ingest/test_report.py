"""What the summary of an ingest says beside its table."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from ingest.report import summary
from ingest.shards import manifest
from ingest.shards.wording import count as counted
from ingest.shards.wording import share
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
    assert "--image-format png" not in summary(dataclasses.replace(facts, channels=1), {})  # stored as arrays


def test_what_was_left_out_is_named(raw: Path, tmp_path: Path, quick) -> None:
    for number in range(5):
        (raw / f"img/train/scene_0{number}.jpg").write_bytes(b"junk")
    out = tmp_path / "out"
    result = quick("folder", raw, "--spec", raw / "dataset.yaml", "--out", out, "--skip-bad")
    assert result.returncode == 0, result.stderr
    line = next(line for line in result.stdout.splitlines() if "left out" in line)
    assert line.startswith("warning: 5 files of train left out: img/train/scene_0") and "not an image" in line
    assert line.count("img/train/") == 3 and line.endswith("2 more, listed in dataset.json")
    said = quick("verify", out).stdout
    assert "2 shards with 9 samples are whole" in said


def test_counts_and_shares() -> None:
    assert [counted(1, "shard"), counted(2, "shard"), counted(3000, "class")] == [
        "1 shard",
        "2 shards",
        "3,000 classes",
    ]
    assert [share(0, 9), share(1, 0), share(1, 10000), share(1, 1000), share(1, 3)] == [
        "-", "-", "<0.1%", "0.1%", "33.3%",
    ]  # fmt: skip


def test_tiles_left_out_for_one_reason_are_told_once(tmp_path: Path) -> None:
    facts = manifest.load(write_shards(tmp_path / "s", {"train": [smooth_scene(20, 30, 0)]}))
    skipped = [manifest.Skipped("s1.tif", "s1.tif is broken")] * 1200 + [manifest.Skipped("s2.tif", "empty")]
    split = dataclasses.replace(facts.splits["train"], skipped=skipped)
    line = summary(dataclasses.replace(facts, splits={"train": split}), {}).splitlines()[-1]
    assert line == "warning: 1,201 tiles of train left out: s1.tif is broken [1,200 tiles of it]; s2.tif (empty)"
