"""--dry-run: whose classes are drawn, what is changed for it, and that nothing stays behind."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from ingest.errors import UserError
from ingest.shards import manifest
from tests.shard_folder import smooth_scene, write_shards
from train import config, dry_run
from train.config import Recipe


def recipe(path: str = "", **data: str) -> Recipe:
    return config.parse({"data": {"path": path, **data}, "train": {"steps": 9}})


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("shards/voc", "voc"),
        ("/data/voc_aug/", "voc"),
        ("s3://bucket/cityscapes_coarse", "cityscapes"),
        ("cocostuff10k", "cocostuff"),
    ],
)
def test_the_stand_in_is_the_one_that_the_folder_is_named_after(path: str, name: str) -> None:
    assert dry_run.find_stand_in(recipe(path)) == dry_run.StandIn(name)


def test_a_spec_gives_its_classes() -> None:
    assert dry_run.find_stand_in(recipe("no/camvid")).classes[:2] == ["sky", "building"]
    assert dry_run.find_stand_in(recipe("shards/voc"), "camvid").name == "camvid"  # what is asked for goes first


def test_a_dataset_that_is_there_says_its_own_classes_and_channels(toy: Path) -> None:
    stand_in = dry_run.find_stand_in(recipe(str(toy)))
    assert stand_in == dry_run.StandIn("toy", [f"class{i}" for i in range(5)], 3)
    with pytest.raises(UserError, match="training"):
        dry_run.find_stand_in(recipe(str(toy), train="training"))


def test_a_dataset_that_nobody_knows_is_asked_for() -> None:
    with pytest.raises(UserError, match=r"data.path = 'shards/mine' holds no dataset.json.*--stand-in ade20k\|camvid"):
        dry_run.find_stand_in(recipe("shards/mine"))
    with pytest.raises(UserError, match=r"--stand-in 'vok' is no dataset.*did you mean 'voc'"):
        dry_run.find_stand_in(recipe(), "vok")


@pytest.mark.parametrize(("count", "channels"), [(3, 3), (150, 4)])
def test_a_drawn_stand_in_has_the_classes_and_channels(count: int, channels: int, tmp_path: Path) -> None:
    classes = [f"kind {i}" for i in range(count)]
    shards = dry_run.draw(dry_run.StandIn("mine", classes, channels), tmp_path, (40, 56), 2, 1)
    facts = manifest.load(shards)
    assert facts.classes == classes and facts.channels == channels
    assert facts.split("train").samples == 2 and facts.split("val").samples == 1
    assert sum(pixels > 0 for pixels in facts.split("train").class_pixels) >= 3


def test_a_stand_in_that_cannot_be_drawn_says_why(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"the stand-in could not be drawn \(python -m ingest scenes\): "):
        dry_run.draw(dry_run.StandIn("voc"), tmp_path, (1, 1), 2, 1)


def test_what_is_changed_on_a_cpu_is_said_and_no_more_is_changed() -> None:
    given = config.load("voc_pspnet", ["train.compile=true"])
    small, changes = dry_run.fit(given, on_gpu=False)
    assert small.augment.crop == (96, 96) and small.data.batch_size == 2
    assert not small.net.pretrained and not small.train.compile
    assert [change.split("=")[0] for change in changes] == [
        "net.pretrained",
        "augment.crop",
        "data.batch_size",
        "train.compile",
    ]
    assert given == config.load("voc_pspnet", ["train.compile=true"]), "the recipe itself is left alone"
    assert (small.loss, small.optimizer, small.schedule) == (given.loss, given.optimizer, given.schedule)
    assert small.net.aux == given.net.aux and small.net.backbone == given.net.backbone


def test_on_a_gpu_crop_and_batch_stay() -> None:
    given = config.load("voc_pspnet")
    whole, changes = dry_run.fit(given, on_gpu=True)
    assert (whole.augment, whole.data) == (given.augment, given.data)
    assert changes == ["net.pretrained=false (no download)"]


def test_nothing_is_left_behind(
    toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    before = {path: path.stat().st_mtime_ns for path in toy.iterdir()}
    overrides = [f"data.path={toy}", "train.device=cpu", "train.monitor=iou/class1", "optimizer.accumulate=2"]
    assert dry_run.run(config.load("scenes_enet", overrides), None) == 0
    assert list(tmp_path.iterdir()) == []
    assert {path: path.stat().st_mtime_ns for path in toy.iterdir()} == before
    said = capsys.readouterr().out
    assert "with the classes of toy" in said and "augment.crop=[72, 96] instead of [144, 192]" in said
    assert "it runs: enet, 0.36 M parameters, 5 classes; 2 steps" in said
    for unit in (" s, ", " MB, ", " GB on the cpu"):
        assert unit in said


def test_rare_classes_that_the_scenes_do_not_show_are_left_out_and_named(capsys: pytest.CaptureFixture[str]) -> None:
    given = config.load("camvid_enet", ["train.device=cpu"])
    given.data.balance = {"road": 0.1, "pedestrian": 0.1, "bicyclist": 0.1, "fence": 0.1}
    assert dry_run.run(given, None) == 0
    said = capsys.readouterr().out.splitlines()[-1]
    assert "left out of data.balance, since no scene here shows it: " in said and "road" not in said
    given.data.balance = {"raod": 0.1}
    with pytest.raises(UserError, match=r"data\.balance names 'raod'; did you mean 'road'"):
        dry_run.run(given, None)


def test_a_recipe_that_cannot_run_fails_as_training_would_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs = [smooth_scene(32, 40, seed) for seed in range(3)]
    shards = write_shards(tmp_path / "shards", {"train": pairs, "val": pairs})
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(UserError, match=r"loss.class_weights has 2 weights, the dataset has 5 classes"):
        dry_run.run(
            config.load("scenes_enet", [f"data.path={shards}", "train.device=cpu", "loss.class_weights=[1, 2]"]), None
        )
    assert list(tmp_path.iterdir()) == [shards]
