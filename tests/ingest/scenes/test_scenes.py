"""Scenes: pure functions of (seed, index, size), labels that match, a writer that leaves nothing half done."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np
import pytest
import yaml
from click.testing import CliRunner
from PIL import Image

from ingest.errors import UserError
from ingest.scenes import command, write
from ingest.scenes.kinds import Kind
from ingest.scenes.layouts.folder import CLASSES
from ingest.scenes.render import scene


def tree(folder: Path) -> dict[str, str]:
    """Relative path -> hash of every file."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("scenes") / "raw", counts={"train": 12, "val": 4}, workers=2)


def test_same_bytes_for_any_number_of_workers(drawn: Path, tmp_path: Path):
    alone = write(tmp_path / "raw", counts={"train": 12, "val": 4}, workers=1)
    assert tree(alone) == tree(drawn)


def test_more_scenes_leave_the_others_as_they_are(drawn: Path, tmp_path: Path):
    more = tree(write(tmp_path / "more", counts={"train": 2, "val": 5}, workers=1))
    old = tree(drawn)
    same = {name for name in more if name in old and more[name] == old[name]}
    assert {f"images/val/val_{index:05d}.jpg" for index in range(4)} <= same
    assert {f"labels/train/train_{index:05d}.png" for index in range(2)} <= same


def test_no_two_scenes_are_alike(drawn: Path):
    hashes = [digest for name, digest in tree(drawn).items() if name.startswith("images/")]
    assert len(set(hashes)) == len(hashes) == 16


def test_another_seed_draws_other_scenes():
    first, second = scene(0, 0, 48, 64), scene(1, 0, 48, 64)
    assert not np.array_equal(first.image, second.image)


def test_a_scene_does_not_depend_on_the_ones_before():
    fresh = scene(3, 5, 96, 128)
    scene(3, 4, 96, 128)
    again = scene(3, 5, 96, 128)
    assert np.array_equal(fresh.image, again.image)
    assert np.array_equal(fresh.kinds, again.kinds)


def test_the_same_street_at_any_size():
    small, large = scene(0, 7, 96, 128).kinds, scene(0, 7, 384, 512).kinds
    assert np.mean(large[2::4, 2::4] == small) > 0.9


def test_odd_sizes_and_shapes():
    for height, width in ((33, 47), (101, 64), (64, 200)):
        drawn = scene(0, 1, height, width)
        assert drawn.image.shape == (height, width, 3)
        assert drawn.image.dtype == np.uint8
        assert drawn.kinds.shape == drawn.things.shape == (height, width)


def test_labels_are_where_things_were_drawn():
    """A scene rendered without sensor noise around a thing must change at the label's edge: the sky is not a tree."""
    contrasts = []
    for index in range(8):
        drawn = scene(0, index, 192, 256)
        gray = drawn.image.astype(float).mean(2)
        across = drawn.kinds[:, 1:] != drawn.kinds[:, :-1]
        step = np.abs(np.diff(gray, axis=1))
        contrasts.append(step[across].mean() / step[~across].mean())
    assert min(contrasts) > 1.5


def test_every_class_occurs_and_looks_like_itself(drawn: Path):
    spec = yaml.safe_load((drawn / "dataset.yaml").read_text())
    assert spec["classes"] == list(CLASSES)
    pixels = np.zeros(256, np.int64)
    for path in sorted((drawn / "labels").rglob("*.png")):
        with Image.open(path) as mask:
            assert mask.mode == "L"
            pixels += np.bincount(np.asarray(mask).ravel(), minlength=256)
        with Image.open(str(path).replace("labels", "images").replace(".png", ".jpg")) as image:
            assert (image.mode, image.size) == ("RGB", mask.size)
    assert set(np.flatnonzero(pixels)) <= {*range(len(CLASSES)), 255}
    shares = pixels[: len(CLASSES)] / pixels.sum()
    assert shares.min() > 0.001, dict(zip(CLASSES, shares, strict=True))
    assert shares.max() < 0.6
    assert pixels[255] / pixels.sum() < 0.15


def test_every_kind_is_drawn_somewhere():
    missing = set(Kind) - {Kind.AEROPLANE, Kind.TRAM, Kind.DOG}  # these are rare on purpose
    for index in range(300):
        missing -= {Kind(value) for value in np.unique(scene(0, index, 72, 128).kinds)}
        if not missing:
            return
    pytest.fail(f"300 scenes without {sorted(kind.name for kind in missing)}")


def test_color_alone_does_not_tell_the_classes(drawn: Path):
    """A per-pixel color classifier must stay far below what a net can reach."""

    def pixels(split: str) -> tuple[np.ndarray, np.ndarray]:
        masks = [np.asarray(Image.open(path)).ravel() for path in sorted((drawn / "labels" / split).iterdir())]
        images = [np.asarray(Image.open(path)).reshape(-1, 3) for path in sorted((drawn / "images" / split).iterdir())]
        colors, ids = np.concatenate(images).astype(int) // 32, np.concatenate(masks)
        return (colors @ np.array([64, 8, 1]))[ids != 255], ids[ids != 255]

    colors, ids = pixels("train")
    votes = np.zeros((512, len(CLASSES)), np.int64)
    np.add.at(votes, (colors, ids), 1)
    colors, ids = pixels("val")
    guess = votes.argmax(1)[colors]
    hits = [((guess == k) & (ids == k)).sum() / max(((guess == k) | (ids == k)).sum(), 1) for k in range(len(CLASSES))]
    assert np.mean(hits) < 0.4


class TestRefusals:
    def test_unknown_layout_names_the_nearest(self, tmp_path: Path):
        with pytest.raises(UserError, match="did you mean 'cityscapes'"):
            write(tmp_path / "x", layout="cityscape")

    def test_unknown_split(self, tmp_path: Path):
        with pytest.raises(UserError, match="no split 'extra'"):
            write(tmp_path / "x", counts={"extra": 1})

    def test_bad_counts(self, tmp_path: Path):
        with pytest.raises(UserError, match="cannot draw -1 scenes"):
            write(tmp_path / "x", counts={"train": -1})
        with pytest.raises(UserError, match="nothing to draw"):
            write(tmp_path / "x", counts={"train": 0, "val": 0})

    def test_bad_size(self, tmp_path: Path):
        with pytest.raises(UserError, match="size 8x9999"):
            write(tmp_path / "x", size=(8, 9999))
        result = CliRunner().invoke(command, [str(tmp_path / "x"), "--size", "big"])
        assert isinstance(result.exception, UserError)

    def test_archives_of_a_layout_that_has_none(self, tmp_path: Path):
        with pytest.raises(UserError, match="no official archives"):
            write(tmp_path / "x", archives=True)

    def test_an_existing_folder_stays_as_it_is(self, tmp_path: Path):
        (tmp_path / "x").mkdir()
        (tmp_path / "x" / "mine.txt").write_text("mine")
        with pytest.raises(UserError, match="not an empty folder"):
            write(tmp_path / "x", counts={"train": 1, "val": 0}, size=(32, 32))
        assert tree(tmp_path / "x").keys() == {"mine.txt"}

    def test_nothing_is_left_when_it_fails(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        def full(*_args: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("ingest.scenes.pack.Folder.add", full)
        with pytest.raises(OSError):
            write(tmp_path / "x", counts={"train": 1, "val": 0}, size=(32, 32), workers=1)
        assert os.listdir(tmp_path) == []


def test_command_says_what_to_do_next(tmp_path: Path):
    out = tmp_path / "raw"
    arguments = [str(out), "--train", "1", "--val", "1", "--size", "48x64", "--workers", "1"]
    result = CliRunner().invoke(command, arguments)
    assert result.exit_code == 0, result.output
    assert f"python -m ingest folder {out} --spec {out}/dataset.yaml" in result.output
    with Image.open(out / "images/train/train_00000.jpg") as image:
        assert image.size == (64, 48)
