"""A walk over everything that pytorch-segmentation knows: each key changes the recipe or is named, as is what it does
whatever the config says. What it knows stands in tests/train/convert/original.py.
"""

from __future__ import annotations

import copy
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner

import nets
from ingest.__main__ import main as ingest_command
from ingest.scenes import command as draw
from ingest.shards import manifest
from tests.train.convert import original
from train import config
from train.convert.data import STATISTICS
from train.convert.draft import Draft
from train.convert.nets import ARCHITECTURES
from train.convert.optimizer import LOSSES, OPTIMIZERS, OTHERS, SCHEDULES
from train.convert.translate import convert_config

TRAIN = {
    "data_dir": "D", "batch_size": 12, "crop_size": 384, "base_size": 500, "scale": True, "num_workers": 0,
    "val": False, "shuffle": True, "flip": True, "rotate": True, "blur": True, "augment": True, "return_id": False,
}  # fmt: skip
BASE: dict[str, Any] = {
    "name": "walk", "n_gpu": 1, "use_synch_bn": False, "ignore_index": 255, "loss": "CrossEntropyLoss2d",
    "arch": {"type": "PSPNet", "args": {}},
    "train_loader": {"type": "VOC", "args": TRAIN | {"split": "train"}},
    "val_loader": {"type": "VOC", "args": {"data_dir": "D", "val": True, "split": "val"}},
    "optimizer": {"type": "SGD", "differential_lr": True, "args": {"lr": 0.01, "momentum": 0.9}},
    "lr_scheduler": {"type": "Poly", "args": {}},
    "trainer": {
        "epochs": 40, "save_dir": "saved/", "monitor": "max Mean_IoU", "early_stop": 0, "tensorboard": True,
        "log_per_iter": 20, "val": True, "val_per_epochs": 5,
    },
}  # fmt: skip


def with_value(raw: dict[str, Any], key: str, value: Any) -> dict[str, Any]:
    raw = copy.deepcopy(raw)
    *sections, last = key.split(".")
    place = raw
    for section in sections:
        place = place.setdefault(section, {})
    place[last] = value
    return raw


def converted(raw: dict[str, Any]) -> Draft:
    return convert_config(raw, "c.json")


def shows(raw: dict[str, Any], key: str, value: Any) -> bool:
    """Whether that value at that key changes the recipe or its commands, or is named among what differs."""
    before, after = converted(raw), converted(with_value(raw, key, value))
    changes = (before.values, before.commands) != (after.values, after.commands)
    return changes or any(note.startswith(f"{key} = ") for note in after.notes)


def test_nothing_is_missing_from_the_walk() -> None:
    assert set(original.ARCHITECTURES) == set(ARCHITECTURES)
    assert set(original.LOADERS) == set(original.SPLITS) == set(STATISTICS)
    assert set(original.LOSSES) == set(LOSSES) and set(original.SCHEDULERS) == set(SCHEDULES)
    assert set(original.OPTIMIZERS) == set(OPTIMIZERS)
    assert {name for part, name in original.FIXED if part == "arch"} == set(ARCHITECTURES)
    assert {name for part, name in original.FIXED if part == "loader"} == set(STATISTICS)


@pytest.mark.parametrize("arch", original.ARCHITECTURES)
def test_every_argument_of_an_architecture(arch: str) -> None:
    raw = with_value(BASE, "arch", {"type": arch, "args": {}})
    for key, value in original.ARCHITECTURES[arch].items():
        assert shows(raw, f"arch.args.{key}", value), key
    draft = converted(raw)
    asked = config.parse(draft.nested()).net
    known = nets.options(asked.name)
    assert set(asked.options) <= set(known) and (asked.backbone is None or "backbone" in known)
    assert not asked.aux or "aux" in known


@pytest.mark.parametrize("loader", original.LOADERS)
def test_every_argument_of_a_loader(loader: str) -> None:
    train, val, extra = original.SPLITS[loader][0]
    raw = with_value(BASE, "train_loader", {"type": loader, "args": TRAIN | {"split": train} | extra})
    raw = with_value(raw, "val_loader", {"type": loader, "args": {"data_dir": "D", "val": True, "split": val} | extra})
    for section in ("train_loader", "val_loader"):
        for key, value in original.LOADERS[loader].items():
            if section == "val_loader" and key in original.IDLE_IN_VALIDATION | {"val"}:
                continue
            given = not raw[section]["args"].get(key) if value is None else value
            assert shows(raw, f"{section}.args.{key}", given), f"{section} {key}"


def test_validation_on_augmented_crops_is_named() -> None:
    raw = with_value(BASE, "val_loader.args.val", False)
    assert shows(raw, "val_loader.args.augment", True)


CASES = [(loader, *case) for loader, cases in original.SPLITS.items() if loader != "DeepScene" for case in cases]
QUICK = {("VOC", "train_aug", "val_aug"), ("CityScapes", "train_extra", "val"), ("COCO", "all", "test")}


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """`drawn("voc")`: a stand-in of that layout, drawn once."""
    found: dict[str, Path] = {}

    def draw_once(layout: str) -> Path:
        if layout not in found:
            found[layout] = tmp_path_factory.mktemp(layout) / "raw"
            counts = ["--train", "2", "--size", "48x64", "--workers", "1"]
            counts += ["--test" if layout == "cocostuff10k" else "--val", "1"]
            done = CliRunner().invoke(draw, [str(found[layout]), "--layout", layout, *counts])
            assert done.exit_code == 0, done.exception
        return found[layout]

    return draw_once


@pytest.mark.parametrize(
    ("loader", "train", "val", "extra"),
    [pytest.param(*case, marks=[] if case[:3] in QUICK else pytest.mark.slow) for case in CASES],
)
def test_the_commands_make_the_splits_that_the_recipe_names(
    loader: str,
    train: str,
    val: str,
    extra: dict[str, str],
    drawn: Callable[[str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On drawn stand-ins: the printed commands are run, and the folders have the splits."""
    monkeypatch.chdir(tmp_path)
    aug = "_aug" if "_aug" in train + val else ""
    layout = {"VOC": f"voc{aug}", "CityScapes": "cityscapes", "ADE20K": "ade20k"}.get(loader)
    layout = layout or ("cocostuff10k" if "partition" in extra else "cocostuff164k")
    trains = TRAIN | {"data_dir": str(drawn("cityscapes_coarse" if "mode" in extra else layout)), "split": train}
    validates = {"data_dir": str(drawn(layout)), "val": True, "split": val}
    raw = with_value(BASE, "train_loader", {"type": loader, "args": trains | extra})
    raw = with_value(raw, "val_loader", {"type": loader, "args": validates})
    draft = converted(raw)
    for command in draft.commands[:-1]:
        words = shlex.split(command)
        assert words[:3] == ["python", "-m", "ingest"]
        done = CliRunner().invoke(ingest_command, [*words[3:], "--workers", "1"])
        assert done.exit_code == 0, f"{command}: {done.output} {done.exception}"
    data = config.parse(draft.nested()).data
    assert manifest.load(data.path).split(data.train).samples
    validated = manifest.load(data.val_path or data.path)
    assert validated.split(data.val).labeled and validated.classes == manifest.load(data.path).classes


@pytest.mark.parametrize("scheduler", original.SCHEDULERS)
def test_every_argument_of_a_scheduler(scheduler: str) -> None:
    raw = with_value(BASE, "lr_scheduler", {"type": scheduler, "args": {}})
    for key, value in original.SCHEDULERS[scheduler].items():
        assert shows(raw, f"lr_scheduler.args.{key}", value), key


@pytest.mark.parametrize("optimizer", original.OPTIMIZERS)
def test_every_argument_of_an_optimizer(optimizer: str) -> None:
    raw = with_value(BASE, "optimizer", {"type": optimizer, "differential_lr": True, "args": {"momentum": 0.9}})
    for key, value in original.OPTIMIZERS[optimizer].items():
        assert shows(raw, f"optimizer.args.{key}", value), key


def test_every_optimizer_of_torch_is_taken_or_named() -> None:
    names = [
        name
        for name, kind in vars(torch.optim).items()
        if isinstance(kind, type) and issubclass(kind, torch.optim.Optimizer) and kind is not torch.optim.Optimizer
    ]
    assert set(OPTIMIZERS) <= set(names) <= {*OPTIMIZERS, *OTHERS}
    for name in names:
        draft = converted(with_value(BASE, "optimizer", {"type": name, "args": {"lr": 0.01}}))
        assert name in OPTIMIZERS or any(note.startswith(f'optimizer.type = "{name}"') for note in draft.notes)


@pytest.mark.parametrize("key", original.TOP)
def test_every_other_key(key: str) -> None:
    assert shows(BASE, key, original.TOP[key])


@pytest.mark.parametrize(("part", "name"), original.FIXED)
def test_what_is_done_there_unasked_is_named(part: str, name: str) -> None:
    raw = copy.deepcopy(BASE)
    if part == "loader":
        raw["train_loader"]["type"] = raw["val_loader"]["type"] = name
    elif part != "any":
        raw[{"arch": "arch", "scheduler": "lr_scheduler"}[part]]["type"] = name
    lines = converted(raw).fixed
    for words in original.FIXED[part, name]:
        assert sum(words in line for line in lines) == 1, words


def test_the_warping_of_the_10k_set_is_named() -> None:
    raw = with_value(BASE, "train_loader", {"type": "COCO", "args": TRAIN | {"split": "train"}})
    raw = with_value(raw, "val_loader", {"type": "COCO", "args": {"data_dir": "D", "val": True, "split": "test"}})
    assert any("513x513" in line for line in converted(raw).fixed)
