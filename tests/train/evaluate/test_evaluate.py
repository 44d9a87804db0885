"""Evaluation and prediction through the commands, as a user runs them; the same numbers on any number of ranks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import click
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from ingest.errors import UserError
from tests.conftest import ROOT
from tests.shard_folder import smooth_scene, write_shards
from train.checkpoints import checkpoint
from train.evaluate.command import command
from train.predict.command import command as label_files


def call(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, env=environment)


def here(command: click.Command, *arguments: str) -> str:
    """What the command prints, run in this process, with one thread as `call` does."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        result = CliRunner().invoke(command, arguments, catch_exceptions=False)
    finally:
        torch.set_num_threads(threads)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_two_ranks_and_other_batches_give_the_same_digits(trained: Path, tmp_path: Path) -> None:
    found = []
    for number, batch_size in enumerate((1, 1, 2)):
        out, page = tmp_path / f"{number}.json", tmp_path / f"{number}.html"
        more = ["--boundary", "2px", "--report", str(page), "--batch-size", str(batch_size), "--device", "cpu"]
        arguments = ["--checkpoint", str(trained), "--json", str(out), *more]
        if number == 1:
            launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "train.evaluate"]
            done = call(*launch, *arguments)
            assert done.returncode == 0, done.stderr
            said = done.stdout
        else:
            said = here(command, *arguments)
        assert "mIoU" in said and said.count("class0") == 1
        found.append(json.loads(out.read_text()) | {"page": page.read_text()})
    speedless = [{key: value for key, value in one.items() if key != "images_per_second"} for one in found]
    assert speedless[0] == speedless[1] == speedless[2]
    assert found[0]["images"] == 5
    # every labeled pixel of the five scenes was compared, once
    sizes = [(40, 56), (48, 48), (37, 61)]
    labeled = sum((smooth_scene(*sizes[i % 3], seed=100 + i)[1] != 255).sum() for i in range(5))
    assert np.sum(found[0]["confusion"]) == labeled == sum(found[0]["calibration"]["pixels"])
    low, high = found[0]["interval_95"]["miou"]
    assert low <= found[0]["miou"] <= high and 0 < found[0]["boundary"]["mean_iou"] < 1
    for part in (
        "Confused pairs",
        "Suspected label errors",
        "Reliability diagram",
        "Worst images",
        ">Dice<",
        ">boundary F<",
        "the area outlined",
    ):
        assert part in found[0]["page"]


def test_evaluation_agrees_with_its_own_predictions(trained: Path, toy: Path, tmp_path: Path) -> None:
    """predict on the same images as plain files, counted by hand, gives evaluate's IoUs; and its sheet is written."""
    sizes = [(40, 56), (48, 48), (37, 61)]
    (tmp_path / "images" / "deep").mkdir(parents=True)
    for i in range(5):
        Image.fromarray(smooth_scene(*sizes[i % 3], seed=100 + i)[0]).save(tmp_path / "images" / "deep" / f"{i}.png")
    out = tmp_path / "out"
    here(label_files, "--checkpoint", str(trained), "--images", str(tmp_path / "images"), "--out", str(out))
    matrix = np.zeros((5, 5), dtype=np.int64)
    for i in range(5):
        mask = Image.open(out / "masks" / "deep" / f"{i}.png")
        assert mask.mode == "P" and mask.getpalette()[:3] == [70, 130, 180]
        label, prediction = smooth_scene(*sizes[i % 3], seed=100 + i)[1], np.asarray(mask)
        np.add.at(matrix, (label[label != 255], prediction[label != 255]), 1)
        assert (out / "overlays" / "deep" / f"{i}.jpg").exists()
    sheet, scores = tmp_path / "sheet.png", tmp_path / "val.json"
    more = ["--batch-size", "2", "--sheet", str(sheet), "-n", "3", "--json", str(scores)]
    here(command, "--checkpoint", str(trained), "--data", str(toy), *more)
    found = json.loads(scores.read_text())
    assert found["confusion"] == matrix.tolist()
    intersection, union = np.diag(matrix), matrix.sum(0) + matrix.sum(1) - np.diag(matrix)
    expected = [float(i / u) if u else None for i, u in zip(intersection, union, strict=True)]
    assert list(found["iou"].values()) == pytest.approx(expected)
    assert Image.open(sheet).size[1] > 3 * 180


def test_mistakes_are_one_line_and_exit_2(trained: Path, tmp_path: Path) -> None:
    other = write_shards(tmp_path / "other", {"val": [smooth_scene(32, 32, 1)]}, num_classes=7)
    cases = [
        (["--checkpoint", "/nowhere.pt"], "checkpoint /nowhere.pt does not exist"),
        (["--checkpoint", str(trained), "--split", "vl"], "did you mean 'val'"),
        (["--checkpoint", str(trained), "--report", "x.txt"], "ends in .html"),
        (["--checkpoint", str(trained), "--mode", "whole", "--window", "32"], "--mode whole takes no --window"),
        (["--checkpoint", str(trained), "--window", "32", "--stride", "33"], "uncovered"),
        (["--checkpoint", str(trained), "--scales", "1,x"], "expected numbers from 0.1 to 4"),
        (["--checkpoint", str(trained), "--boundary", "3"], "expected whole pixels such as 3px"),
        (["--checkpoint", str(trained), "--data", str(other)], "differ first at class 5 (none against 'class5')"),
    ]
    for arguments, message in cases:
        result = CliRunner().invoke(command, arguments)
        assert isinstance(result.exception, UserError) and message in str(result.exception)
        assert "\n" not in str(result.exception)
    arguments, message = cases[0]
    done = call("-m", "train.evaluate", *arguments)
    assert done.returncode == 2 and message in done.stderr and "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.slow
def test_torchrun_trains_and_resumes_with_another_world_size(toy: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "r.yaml"
    recipe.write_text(
        f"name: r\noutput: {tmp_path}/saved\ndata: {{path: {toy}, batch_size: 2}}\n"
        "augment: {crop: [32, 32], base_size: 48}\nnet: {name: enet}\n"
        "train: {steps: 4, val_every_steps: 4, device: cpu}\n"
    )
    two = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = call(*two, "-m", "train", "--cfg", str(recipe), "train.save_every_steps=2")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("run folder") == 2  # one rank speaks: at the start and at the end
    (last,) = tmp_path.glob("saved/r/*/checkpoints/last.pt")
    assert checkpoint.load(last)["loader"]["position"] == 4 or checkpoint.load(last)["loader"]["epoch"] == 1
    done = call("-m", "train", "--cfg", str(recipe), "--resume", "auto", "train.steps=6", "data.batch_size=4")
    assert done.returncode == 0, done.stderr
    assert "from step 4 of" in done.stdout
    assert checkpoint.load(last)["step"] == 6
