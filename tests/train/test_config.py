"""Recipes: every shipped one parses, and mistakes are named."""

from __future__ import annotations

import re
import subprocess
import sys
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


@pytest.mark.parametrize("name", ["scenes_enet", "voc_pspnet"])  # epochs, and steps
@pytest.mark.parametrize(
    "overrides",
    [["train.steps=5"], ["train.steps=5", "train.epochs=0"], ["train.epochs=0", "train.steps=5"]],
)
def test_a_length_on_the_command_line_replaces_the_other_unit(name: str, overrides: list[str]) -> None:
    for order in (overrides, [*overrides, "seed=3"], ["seed=3", *overrides]):
        recipe = config.load(name, order)
        assert (recipe.train.steps, recipe.train.epochs) == (5, 0)
    epochs = [
        override.replace("steps", "X").replace("epochs", "steps").replace("X", "epochs") for override in overrides
    ]
    recipe = config.load(name, epochs)
    assert (recipe.train.steps, recipe.train.epochs) == (0, 5)


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
        ("name=../../evil", "name = '../../evil': runs go to output/<name>/<time>"),
        ("name=a/b", "no / (the folder is `output`)"),
        ("name=..", "name = '..'"),
        ("name=''", "name = ''"),
        ("loss.class_weights=null", "loss.class_weights = null: expected none, frequency, median_frequency, enet or a"),
        ("loss.class_weights=[1,x]", "loss.class_weights = [1, 'x']: expected none, frequency"),
        ("loss.focal_alpha=x", "loss.focal_alpha = 'x': expected a number above 0, or a list"),
        ("augment.crop=64", "augment.crop = 64: expected two values, such as [64, 64]"),
        ("augment.scale=1", "augment.scale = 1: expected two values, such as [1, 1]"),
        ("seed=!!int x", "override 'seed=!!int x': the value is not YAML: invalid literal"),
        ("seed=!!bool z", "override 'seed=!!bool z': the value is not YAML"),
        ("seed=!!timestamp x", "override 'seed=!!timestamp x': the value is not YAML"),
        ("seed=" + "9" * 5000, "the value is not YAML: Exceeds the limit (4300 digits)"),
        ("seed=" + "[" * 5000, "the value is not YAML: too many brackets in each other"),
        ("net.options={a: [[[[[[[[[1]]]]]]]]]}", "lists and sections in each other"),
        ("net.options=&x {a: *x}", "net.options.a: lists and sections in each other"),
        ("net.options=&x {a: [*x]}", "lists and sections in each other"),
        ("net.options={name: x}", "net.options.name = 'x': that key is net.name"),
        ("net.options={num_classes: 3}", "that key is the dataset's number of classes"),
        ("augment.base_size=1.0e+20", "augment.base_size = 1e+20: expected a smaller whole number"),
        ("augment.base_size=1000000", "augment.base_size = 1000000: expected at most 65536"),
        ("augment.base_size=1" + "0" * 400, "augment.base_size = 1000"),
        ("augment.scale=[1, 1000]", "low <= high <= 100"),
        (
            "optimizer.accumulate=100000000000000000000",
            "optimizer.accumulate = 100000000000000000000: expected a whole",
        ),
        ("optimizer.lr=1" + "0" * 400, "optimizer.lr = "),
        ("data.prefetch=1000000", "data.prefetch = 1000000: expected a whole number of at most 1024"),
        ("data.threads=99999", "data.threads = 99999: expected a whole number of at most 1024"),
        ("data.path=" + "x" * 5000, "expected at most 4096 characters"),
        ('output="a\\0b"', "none of them null"),
    ],
)
def test_mistakes_are_named(override: str, message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)) as caught:
        config.load("scenes_enet", [override, "train.device=cpu"])
    assert len(str(caught.value)) < 1500 and "\n" not in str(caught.value)


def test_a_value_of_100_kb_is_not_echoed() -> None:
    long = "x" * 100_000
    for override in (f"data.pth={long}", f"optimizer.lr={long}", f"{long}=1", long, f"optimizer.name={long}"):
        with pytest.raises(UserError) as caught:
            config.load("scenes_enet", [override])
        assert len(str(caught.value)) < 1500
    with pytest.raises(UserError) as caught:
        config.load(long)
    assert len(str(caught.value)) < 1500


def test_aliases_do_not_multiply(tmp_path: Path) -> None:
    """Seven levels of thirty: 2 * 10^10 values if each were looked at wherever it stands, 210 if once."""
    levels = [f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 30)}]" for n in range(1, 7)]
    inner = "\n    ".join(["l0: &l0 [1]", *levels])
    (tmp_path / "many.yaml").write_text(f"train: {{steps: 1}}\nnet:\n  options:\n    {inner}\n")
    assert list(config.load(str(tmp_path / "many.yaml")).net.options) == [f"l{n}" for n in range(7)]


def test_a_recipe_is_read_without_torch() -> None:
    code = "import sys; from train import config; config.load('voc_pspnet'); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_an_auxiliary_head_that_would_learn_nothing_is_refused() -> None:
    with pytest.raises(UserError, match=r"loss\.aux_weight = 0, but net\.aux = true.*set net\.aux=false"):
        config.load("scenes_enet", ["net.aux=true", "loss.aux_weight=0"])


def test_validation_is_switched_off_by_an_empty_value() -> None:
    assert config.load("scenes_enet", ["data.val="]).data.val == ""
    # nothing is said of how often where there is nothing to validate on
    assert config.load("scenes_enet", ["data.val=", "train.val_every_epochs=0"]).data.val == ""


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
