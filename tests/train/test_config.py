"""Recipes: every shipped one parses, and mistakes are named."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from ingest.errors import UserError
from train import config


@pytest.mark.parametrize("name", config.shipped())
def test_shipped_recipes_parse_and_survive_a_round_trip(name: str) -> None:
    recipe = config.load(name)
    assert recipe.name == name
    assert config.parse(yaml.safe_load(config.to_yaml(recipe))) == recipe


def test_overrides_reach_their_keys() -> None:
    recipe = config.load("scenes_enet", ["optimizer.lr=1e-3", "augment.crop=[64, 96]", "net.backbone=null", "seed=7"])
    assert recipe.optimizer.lr == 0.001
    assert recipe.augment.crop == (64, 96)
    assert recipe.net.backbone is None and recipe.seed == 7


def test_a_length_on_the_command_line_replaces_the_other_unit() -> None:
    recipe = config.load("scenes_enet", ["train.steps=5"])
    assert (recipe.train.steps, recipe.train.epochs) == (5, 0)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("data.pth=x", "unknown key 'data.pth'; did you mean 'path'"),
        ("optimzer.lr=1", "unknown key 'optimzer'; did you mean 'optimizer'"),
        ("optimizer.lr=abc", "optimizer.lr = 'abc'"),
        ("train.amp=bf", "train.amp = 'bf': expected 'auto', 'bf16', 'fp16' or 'off'"),
        ("augment.crop=[1,2,3]", "augment.crop"),
        ("augment.scale=[2,1]", "low <= high"),
        ("augment.rotate=.nan", "augment.rotate = nan"),
        ("data.batch_size=0", "data.batch_size"),
        ("net=5", "net = 5: expected a section with name, backbone"),
        ("train.amp=fp16", "needs a GPU"),
        ("nonsense", "not key=value"),
        ("name.x=1", "'name' is not a section"),
    ],
)
def test_mistakes_are_named(override: str, message: str) -> None:
    with pytest.raises(UserError, match=message.replace("[", r"\[")):
        config.load("scenes_enet", [override, "train.device=cpu"])


def test_steps_and_epochs_together_are_refused(raw_recipe: dict) -> None:
    raw_recipe["train"]["epochs"] = 3
    with pytest.raises(UserError, match="give one of them"):
        config.parse(raw_recipe)


def test_unknown_recipe_and_broken_files(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="did you mean 'scenes_enet'"):
        config.load("scenes_enett")
    with pytest.raises(UserError, match="does not exist"):
        config.load(str(tmp_path / "no.yaml"))
    (tmp_path / "bad.yaml").write_text("a: [1")
    with pytest.raises(UserError, match="not YAML"):
        config.load(str(tmp_path / "bad.yaml"))
    (tmp_path / "list.yaml").write_text("- 1")
    with pytest.raises(UserError, match="expected sections"):
        config.load(str(tmp_path / "list.yaml"))
