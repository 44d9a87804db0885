"""The shipped CamVid spec and recipe on the real images."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ingest import stats
from ingest.shards import manifest
from ingest.shards.reader import ShardSet
from tests.conftest import ROOT
from tests.loaders import eval_loader


@pytest.mark.realdata
def test_median_frequency_is_the_papers(realdata: Path, tmp_path: Path) -> None:
    """Each class's share of the images that show it, as SegNet weighs this very set."""
    out = tmp_path / "camvid"
    command = ["-m", "ingest", "folder", str(realdata / "camvid"), "--spec", "camvid", "--split", "train"]
    done = subprocess.run([sys.executable, *command, "--out", str(out)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    weights = {one.name: one.median_weight for one in stats.measure(out, "train").classes}
    assert weights["fence"] == pytest.approx(1.974, abs=5e-4)
    assert weights["bicyclist"] == pytest.approx(8.859, abs=5e-4)


@pytest.mark.realdata
def test_camvid_goes_in_and_comes_out(realdata: Path, tmp_path: Path) -> None:
    out = tmp_path / "camvid"
    command = ["-m", "ingest", "folder", str(realdata / "camvid"), "--spec", "camvid", "--split", "val"]
    done = subprocess.run([sys.executable, *command, "--out", str(out)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    facts = manifest.load(out)
    assert facts.num_classes == 11 and facts.split("val").samples == 101
    masks = [np.asarray(Image.open(path)) for path in (realdata / "camvid" / "valannot").glob("*.png")]
    pixels = np.bincount(np.concatenate([mask.ravel() for mask in masks]), minlength=12)
    assert facts.split("val").class_pixels == pixels[:11].tolist()
    assert facts.split("val").ignored_pixels == pixels[11]
    # and what the loader hands out are the very pixels of the files
    shards = ShardSet(out, "val")
    names = {sample.key: sample for sample in manifest.load_shard(out, "val-000000").samples}
    batch = next(iter(eval_loader(shards, 3)))
    for key, image in zip(batch.keys, batch.images, strict=True):
        expected = np.asarray(Image.open(realdata / "camvid" / names[key].image))
        np.testing.assert_array_equal(image.permute(1, 2, 0).numpy(), expected)
