"""Shipped recipes: each says what it is, and each trains two steps on its dataset's synthetic stand-in."""

from __future__ import annotations

import shutil
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import pytest
import timm
import torch

import nets
from train import config, dry_run
from train.distributed import Ranks

DATASETS = ("ade20k", "camvid", "cityscapes", "cocostuff", "scenes", "voc")
QUICK = {"camvid_enet", "cityscapes_enet", "scenes_pspnet"}  # the others dry-run among the slow tests


@pytest.mark.parametrize("name", config.shipped())
def test_a_recipe_is_what_its_name_says(name: str) -> None:
    dataset, net, *encoder = name.split("_")
    recipe = config.load(name)
    assert recipe.name == name and recipe.net.name == net
    assert not encoder or encoder[0] in str(recipe.net.backbone).replace(".", "_").split("_")
    assert dry_run.find_stand_in(recipe, None if not Path(recipe.data.path).exists() else dataset).name == dataset
    lines = (config.RECIPES / f"{name}.yaml").read_text().splitlines()
    assert any(f"python -m train --cfg {name}" in line for line in lines[:8]), "its command stands at the top"
    assert any("python -m ingest" in line for line in lines[:3]), "and how its shards are made"
    assert max(map(len, lines)) <= 120


def test_every_dataset_and_every_net_has_its_recipes() -> None:
    found: dict[str, set[str]] = defaultdict(set)
    for name in config.shipped():
        dataset, net, *_ = name.split("_")
        found[dataset].add(net)
    assert set(found) == set(DATASETS)
    for dataset, its_nets in found.items():
        assert len(its_nets) >= 3 and {"deeplabv3plus", "pspnet"} <= its_nets, dataset
    assert found["voc"] | found["cityscapes"] == set(nets.list_nets())


def test_small_data_starts_from_scratch_and_large_from_imagenet() -> None:
    for name in config.shipped():
        recipe = config.load(name)
        can = recipe.net.name not in ("enet",) and not (recipe.net.name == "unet" and recipe.net.backbone is None)
        small = (
            name.startswith(("camvid", "scenes")) and name.count("_") == 1
        )  # a third word names a pretrained encoder
        assert recipe.net.pretrained == (can and not small), name


def test_encoders_are_named_with_the_tag_of_their_weights() -> None:
    """timm's default weights of a name move; a recipe's must not."""
    for name in config.shipped():
        backbone = config.load(name).net.backbone
        assert backbone is None or backbone in timm.list_pretrained(backbone), name


def test_every_dataset_has_a_recent_encoder() -> None:
    convnext = {name.split("_")[0] for name in config.shipped() if "convnext" in str(config.load(name).net.backbone)}
    assert convnext == set(DATASETS) - {"scenes"}


@pytest.fixture(scope="module")
def stand_in(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Draws each dataset's stand-in once: `stand_in("voc")` -> a shard folder."""
    drawn: dict[str, Path] = {}

    def draw(dataset: str) -> Path:
        if dataset not in drawn:
            folder = tmp_path_factory.mktemp(dataset)
            drawn[dataset] = dry_run.draw(dry_run.find_stand_in(config.Recipe(), dataset), folder, (72, 96), 2, 1)
        return drawn[dataset]

    return draw


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[] if n in QUICK else pytest.mark.slow) for n in config.shipped()]
)
def test_a_recipe_trains(name: str, stand_in: Callable[[str], Path], tmp_path: Path) -> None:
    recipe, _ = dry_run.fit(config.load(name, ["train.device=cpu"]), on_gpu=False)
    ranks = Ranks(0, 1, 0, 1, torch.device("cpu"))
    report = dry_run.dry_run(recipe, ranks, stand_in(name.split("_")[0]), tmp_path / "run")
    shutil.rmtree(tmp_path / "run")  # up to a gigabyte
    classes = {"ade20k": 150, "camvid": 11, "cityscapes": 19, "cocostuff": 171, "scenes": 8, "voc": 21}
    assert f"{recipe.net.name}, " in report and f" {classes[name.split('_')[0]]} classes; 2 steps" in report
    assert "1 image validated" in report
