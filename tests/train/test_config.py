"""Recipes: every shipped one parses, and mistakes are named."""

from __future__ import annotations

import re
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
        ("data.pth=x", "unknown key 'data.pth' = 'x'; did you mean 'data.path'"),
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
        ("lr=0.1", "unknown key 'lr' = 0.1; did you mean 'optimizer.lr'? Choices: name, seed"),
        ("batch_size=4", "did you mean 'data.batch_size'"),
        ("optimizer.lrr=1", "unknown key 'optimizer.lrr' = 1; did you mean 'optimizer.lr'? Choices: optimizer.name"),
        ("augment.crop=[64]", "augment.crop = [64]: expected 2 values"),
        ("seed=99999999999999999999999999", "seed = 99999999999999999999999999: expected a whole number of at most"),
        ("name.x=1", "'name' is not a section"),
    ],
)
def test_mistakes_are_named(override: str, message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        config.load("scenes_enet", [override, "train.device=cpu"])


def test_an_auxiliary_head_that_would_learn_nothing_is_refused() -> None:
    with pytest.raises(UserError, match=r"loss\.aux_weight = 0, but net\.aux = true.*set net\.aux=false"):
        config.load("scenes_enet", ["net.aux=true", "loss.aux_weight=0"])


def test_validation_is_switched_off_by_an_empty_value() -> None:
    assert config.load("scenes_enet", ["data.val="]).data.val == ""


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
