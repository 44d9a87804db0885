"""bench.loader: all rows run, on the same data, and the table says what was measured. Nothing here asserts a speed."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from bench.loader import command, render, summarise
from bench.rows import ROWS, Setting, _StepByStep
from ingest.errors import UserError
from pipeline.augment import Augment
from pipeline.shards import ShardSet
from tests.shard_folder import smooth_scene, write_shards


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_shards(tmp_path_factory.mktemp("bench"), {"train": [smooth_scene(50, 70, i) for i in range(6)]})


@pytest.mark.parametrize("row", ["decode", "ours"])
def test_rows_yield_whole_batches_for_ever(folder: Path, row: str) -> None:
    setting = Setting(str(folder), "train", Augment(crop=(32, 40), base_size=64), 4, 1, "cpu")
    assert list(itertools.islice(ROWS[row](setting), 5)) == [4] * 5


def test_the_step_by_step_row_makes_the_same_kind_of_sample(folder: Path) -> None:
    shards = ShardSet(folder, "train")
    dataset = _StepByStep(shards, Augment(crop=(32, 40), base_size=64))
    for sample in range(6):
        image, label = dataset[sample]
        assert image.shape == (3, 32, 40) and label.shape == (32, 40)
        assert set(np.unique(label)) <= {0, 1, 2, 3, 4, 255}


def test_ratios_are_of_medians() -> None:
    def repeats(*speeds: float) -> list[dict[str, float]]:
        return [{"images_per_second": s, "cpu_seconds_per_image": 0.1, "peak_mb": 1.0} for s in speeds]

    table = summarise({"decode": repeats(90, 100, 300), "ours": repeats(50, 60, 40), "opencv": repeats(10, 11, 5)})
    assert table["ours"]["share_of_limit"] == pytest.approx(0.5)
    assert table["ours"]["times_opencv"] == pytest.approx(5)
    assert table["ours"]["spread"] == pytest.approx(20)
    text = render(table, Setting("x", "train", Augment(crop=(500, 1000)), 8, 2, "cpu"))
    assert "25.0" in text.splitlines()[2]  # 50 images/s of half a megapixel


@pytest.mark.slow
def test_the_command_measures_and_writes(folder: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "r.yaml"
    recipe.write_text(
        "augment: {crop: [32, 40], base_size: 64}\ndata: {batch_size: 2}\ntrain: {steps: 1}\nnet: {name: enet}\n"
    )
    out = tmp_path / "out.json"
    arguments = [str(folder), "--cfg", str(recipe), "--seconds", "0.2", "--repeats", "2", "--json", str(out)]
    done = CliRunner().invoke(command, arguments, catch_exceptions=False)
    assert done.exit_code == 0
    assert "crop 40x32, batch 2" in done.output and "segrail" in done.output
    found = json.loads(out.read_text())
    assert set(found["rows"]) == set(ROWS)
    assert all(len(found["repeats"][row]) == 2 for row in ROWS)
    assert all(facts["images_per_second"] > 0 and facts["peak_mb"] > 10 for facts in found["rows"].values())
    assert found["versions"]["torch"]


def test_mistakes(folder: Path) -> None:
    runner = CliRunner()
    for arguments, message in (
        ([str(folder), "--rows", "our"], "did you mean 'ours'"),
        ([str(folder), "--split", "val"], "no split 'val'"),
        ([str(folder), "--batch", "7"], "fewer than a batch of 7"),
        (["/nowhere"], "does not exist"),
    ):
        with pytest.raises(UserError, match=message):
            runner.invoke(command, arguments, catch_exceptions=False)
