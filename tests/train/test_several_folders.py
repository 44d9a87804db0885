"""`data.path` with several weighted folders, as a user trains, resumes, evaluates and reads the report."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from click.testing import CliRunner

from ingest.errors import UserError
from ingest.shards import manifest
from tests.shard_folder import smooth_scene, write_shards
from train import config
from train.__main__ import command
from train.build import run as build_run
from train.distributed import joined
from train.evaluate.command import command as evaluate


@pytest.fixture(scope="module")
def more(tmp_path_factory: pytest.TempPathFactory) -> Path:
    scenes = [smooth_scene(40, 50 + i, seed=70 + i) for i in range(6)]
    folder = write_shards(tmp_path_factory.mktemp("several") / "more", {"train": scenes})
    facts = json.loads((folder / "dataset.json").read_text())  # schema 1: it has no sum
    (folder / "dataset.json").write_text(json.dumps(facts | {"mean": [0.25, 0.5, 0.75]}))
    return folder


def test_train_resume_and_evaluate(raw_recipe: dict, toy: Path, more: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "toy.yaml"
    del raw_recipe["data"]["path"], raw_recipe["train"]["steps"]
    raw_recipe["train"] |= {"epochs": 2, "val_every_steps": 0}
    raw_recipe["schedule"] = {"name": "constant"}
    recipe.write_text(yaml.safe_dump(raw_recipe))
    path = f"data.path=[{{path: {toy}}}, {{path: {more}, weight: 2}}]"

    def train(*arguments: str) -> str:
        result = CliRunner().invoke(command, ["--cfg", str(recipe), path, *arguments])
        assert result.exit_code == 0, result.output
        return result.stdout

    said = train(f"output={tmp_path / 'whole'}")
    assert "steps 12" in said  # (12 + 2 x 6) / 4 a step, two epochs
    assert f"data.path: {more}, 6 images x 2: 50.0% of an epoch's 24 crops" in said
    assert f"those of {toy}, the first; the others differ" in said
    (best,) = tmp_path.glob("whole/toy/*/checkpoints/last.pt")
    assert "+" in torch.load(best, weights_only=True)["dataset"]["name"]

    train(f"output={tmp_path / 'cut'}", "train.steps=5")
    train(f"output={tmp_path / 'cut'}", "--resume", "auto")
    (resumed,) = tmp_path.glob("cut/toy/*/checkpoints/last.pt")
    ours, theirs = (torch.load(one, weights_only=True)["model"] for one in (best, resumed))
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)

    scored = CliRunner().invoke(evaluate, ["--checkpoint", str(best), "--device", "cpu"])
    assert scored.exit_code == 0 and "mIoU" in scored.output, scored.output
    (page,) = tmp_path.glob("whole/toy/*/report.html")
    assert f"{toy} + {more} x2" in page.read_text()
    said = CliRunner().invoke(command, ["schedule", "--cfg", str(recipe), path, "schedule.warmup_steps=0"])
    assert said.output.splitlines()[0].endswith(", 12 steps"), said.output


def test_class_weights_count_what_is_seen(raw_recipe: dict, toy: Path, more: Path, tmp_path: Path) -> None:
    raw_recipe["data"]["path"] = [str(toy), {"path": str(more), "weight": 2}]
    parsed = config.parse(raw_recipe)
    with joined("cpu") as ranks:
        built = build_run(parsed, ranks, tmp_path)
    pixels = [np.array(manifest.load(one).split("train").class_pixels) for one in (toy, more)]
    assert built.loader.shards.manifest.split("train").class_pixels == (pixels[0] + 2 * pixels[1]).tolist()
    assert config.parse(config.to_dict(parsed)) == parsed


def test_other_classes_are_refused_before_a_run_folder_is_made(raw_recipe: dict, toy: Path, tmp_path: Path) -> None:
    other = write_shards(tmp_path / "other", {"train": [smooth_scene(40, 50, 1)]}, num_classes=4)
    raw_recipe["data"]["path"] = [str(toy), str(other)]
    with joined("cpu") as ranks, pytest.raises(UserError, match=r"class 4 is 'class4' in .* and missing in .*other"):
        build_run(config.parse(raw_recipe), ranks, tmp_path)
