"""What a recipe's net section leads to, from the command line: refusals in one line, and nets that older runs hold."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import yaml
from click.testing import CliRunner

from ingest.errors import UserError
from train import config, model
from train.__main__ import command
from train.checkpoints import checkpoint
from train.config import NetConfig

PSPNET = ["net.name=pspnet", "net.backbone=resnet18", "augment.crop=[32,32]", "data.batch_size=1"]
FACTS: dict[str, Any] = {"classes": ["a", "b"], "channels": 3, "mean": [0.5] * 3, "std": [0.2] * 3}


@pytest.fixture
def cfg(raw_recipe: dict[str, Any], tmp_path: Path) -> Path:
    raw_recipe["train"] |= {"steps": 1, "val_every_steps": 1}
    file = tmp_path / "recipe.yaml"
    file.write_text(yaml.safe_dump(raw_recipe))
    return file


def train(cfg: Path, *overrides: str) -> str:
    result = CliRunner().invoke(command, ["--cfg", str(cfg), *overrides], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def best(cfg: Path) -> Path:
    (found,) = cfg.parent.glob("saved/toy/*/checkpoints/best.pt")
    return found


def test_one_image_per_rank_is_refused_before_training(cfg: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "train", "--cfg", str(cfg), *PSPNET], capture_output=True, text=True, timeout=250
    )
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    for words in (
        "data.batch_size = 1",
        "pspnet",
        "net.pyramid.branches.0.1",
        "data.batch_size=2",
        "net.freeze_bn=all",
    ):
        assert words in line
    assert not list(cfg.parent.glob("saved/**/*.pt"))


def test_the_remedy_for_one_image_works(cfg: Path) -> None:
    train(cfg, *PSPNET, "net.freeze_bn=all")


@pytest.mark.parametrize(
    ("ranks", "settings", "words"),
    [
        (2, ["train.sync_bn=true", "train.compile=true"], "train.compile=false, or train.sync_bn=false"),
        (2, [], "or train.sync_bn=true"),
        (1, ["train.sync_bn=true", "train.compile=true"], "data.batch_size=2"),
    ],
)
def test_what_batch_norm_cannot_do(cfg: Path, ranks: int, settings: list[str], words: str) -> None:
    recipe = config.load(str(cfg), [*PSPNET, *settings])
    net = model.build(recipe.net, FACTS)
    with pytest.raises(UserError, match=words):
        model.check_batch(net, recipe, 1, ranks)
    recipe.train.compile = False
    recipe.train.sync_bn = True
    model.check_batch(net, recipe, 1, 2)  # statistics over two images
    model.check_batch(net, recipe, 2, 1)


def test_freeze_bn_is_true_all_or_false(cfg: Path) -> None:
    assert config.load(str(cfg), ["net.freeze_bn=all"]).net.freeze_bn == "all"
    assert config.load(str(cfg), ["net.freeze_bn=true"]).net.freeze_bn is True
    with pytest.raises(UserError, match=r"net\.freeze_bn = 'head'.*True or 'all'"):
        config.load(str(cfg), ["net.freeze_bn=head"])
    with pytest.raises(UserError, match="freeze_bn: all"):
        model.build(NetConfig(name="enet", freeze_bn=True), FACTS)


def test_weights_are_told_or_refused(cfg: Path, tmp_path: Path) -> None:
    torch.save({"state_dict": timm.create_model("resnet18").state_dict()}, tmp_path / "r18.pth")
    said = train(cfg, "net.name=unet", "net.backbone=resnet18", f"net.backbone_weights={tmp_path / 'r18.pth'}")
    assert f"the encoder starts from 120 tensors of {tmp_path / 'r18.pth'}, 2 of its classifier left over" in said
    with pytest.raises(UserError, match=r"do not fit resnet34.*missing: layer1\.2\.conv1\.weight"):
        train(cfg, "net.name=unet", "net.backbone=resnet34", f"net.backbone_weights={tmp_path / 'r18.pth'}")


def test_checkpoints_hold_all_options_and_older_ones_build_the_older_net(cfg: Path) -> None:
    """DUC had no ASPP, and no option for it: a checkpoint without the option is of that net, also when resumed."""
    duc = ["net.name=duc", "net.backbone=resnet18", "augment.crop=[64,64]", "data.batch_size=2"]
    train(cfg, *duc, "net.options.aspp=false")
    state = checkpoint.load(best(cfg))
    assert state["config"]["net"]["options"] == {"hdc": None, "aspp": False}
    del state["config"]["net"]["options"]["aspp"]
    old = best(cfg).with_name("old.pt")
    checkpoint.save(old, {key: value for key, value in state.items() if key != "format"})
    assert "net.upsampling.weight" in model.from_checkpoint(checkpoint.load(old)).state_dict()
    train(cfg, *duc, "train.steps=2", f"--resume={old}")
    with pytest.raises(UserError, match=r"not of this net \(duc\).*upsampling"):
        train(cfg, *duc, "train.steps=2", "net.options.aspp=true", f"--resume={old}")
