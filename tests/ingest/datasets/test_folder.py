"""`ingest folder`: pairing by text, the spec's checks, and each kind of bad input as one line with exit code 2."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ingest.datasets.folder import find, load_spec
from ingest.errors import UserError
from ingest.shards import manifest
from ingest.shards.tar import read_samples
from tests.ingest.conftest import write_pair


def refused(result, out: Path, *words: str) -> None:
    """One line, exit code 2, nothing left behind."""
    assert result.returncode == 2, result.stderr
    assert len(result.stderr.strip().splitlines()) == 1 and "Traceback" not in result.stderr, result.stderr
    for word in words:
        assert word in result.stderr
    assert not out.exists() and not out.with_name(out.name + ".partial").exists()


def test_shards_hold_the_source(raw: Path, tmp_path: Path, ingest):
    out = tmp_path / "out"
    result = ingest("folder", raw, "--spec", raw / "dataset.yaml", "--out", out, "--workers", 2)
    assert result.returncode == 0, result.stderr
    facts = manifest.load(out)
    assert (facts.classes, facts.splits["train"].samples, facts.splits["val"].samples) == (
        ["sky", "road", "car"],
        10,
        4,
    )
    seen = dict(read_samples(out / "train-000000.tar"))
    assert sorted(seen) == [f"scene_{number:02d}" for number in range(10)]
    values, pixels = [], np.zeros(256, int)
    for key, files in seen.items():
        assert files["jpg"] == (raw / f"img/train/{key}.jpg").read_bytes()  # byte for byte
        label = np.asarray(Image.open(raw / f"lbl/train/{key}.png"))
        stored = Image.open(io.BytesIO(files["seg.png"]))
        assert stored.mode == "L"
        np.testing.assert_array_equal(np.asarray(stored), np.where(label == 9, 255, label))
        pixels += np.bincount(np.asarray(stored).ravel(), minlength=256)
        values.append(np.asarray(Image.open(io.BytesIO(files["jpg"]))).reshape(-1, 3))
    assert facts.splits["train"].class_pixels == pixels[:3].tolist()
    assert facts.splits["train"].ignored_pixels == pixels[255]
    every = np.concatenate(values) / 255
    np.testing.assert_allclose(facts.mean, every.mean(0), rtol=1e-12)
    np.testing.assert_allclose(facts.std, every.std(0), rtol=1e-12)
    assert ingest("verify", out, "--deep").returncode == 0


def test_pairs_by_what_the_wildcards_match(tmp_path: Path):
    for city, stem in (("b", "x"), ("a", "y"), ("a", "x")):
        for name in (f"im/{city}/{city}_{stem}_image.png", f"gt/{city}/{city}_{stem}_ids.png"):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_bytes(b"-")
    (tmp_path / "s.yaml").write_text(
        "{name: s, classes: [a], splits: {train: {images: 'im/*/*_image.png', labels: 'gt/*/*_ids.png'}}}"
    )
    pairs = find(tmp_path, load_spec(str(tmp_path / "s.yaml"))).splits["train"]
    assert len(pairs) == 3
    for pair in pairs:
        assert pair.label and pair.image.name.replace("im/", "gt/").replace("image", "ids") == pair.label.name


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("name: [", ["not YAML"]),
        ("{name: s, clases: [a], splits: {}}", ["clases", "classes"]),
        ("{name: s, classes: [a, a], splits: {t: {images: x}}}", ["different names"]),
        ("{name: s, classes: [a], palette: [[0, 0, 300]], splits: {t: {images: x}}}", ["0..255"]),
        ("{name: s, classes: [sky], ids: {0: skye}, splits: {t: {images: x}}}", ["skye", "did you mean 'sky'"]),
        ("{name: s, classes: [a], ignore: [0], splits: {t: {images: x}}}", ["both a class and ignored"]),
        ("{name: s, classes: [a], splits: {t: {imags: x}}}", ["imags"]),
        ("{name: ../s, classes: [a], splits: {t: {images: x}}}", ["names the output folder"]),
    ],
)
def test_spec_mistakes_are_named(tmp_path: Path, spec: str, words: list[str]):
    path = tmp_path / "s.yaml"
    path.write_text(spec)
    with pytest.raises(UserError) as error:
        load_spec(str(path))
    for word in ["s.yaml", *words]:
        assert word in str(error.value)


def test_shipped_spec_is_valid():
    spec = load_spec("camvid")
    assert len(spec.classes) == len(spec.palette) == 11 and spec.labels.ids[11] == 255


def test_missing_folder(tmp_path: Path, ingest):
    out = tmp_path / "out"
    refused(ingest("folder", tmp_path / "nope", "--spec", "camvid", "--out", out), out, "nope", "does not exist")


def test_empty_split(raw: Path, tmp_path: Path, ingest):
    for path in (raw / "img/val").iterdir():
        path.unlink()
    out = tmp_path / "out"
    refused(ingest("folder", raw, "--spec", raw / "dataset.yaml", "--out", out), out, "'val'", "img/val/*.jpg")


def test_image_without_label(raw: Path, tmp_path: Path, ingest):
    (raw / "lbl/train/scene_03.png").unlink()
    out = tmp_path / "out"
    refused(ingest("folder", raw, "--spec", raw / "dataset.yaml", "--out", out), out, "scene_03.jpg", "no label")


def test_sizes_that_differ(raw: Path, tmp_path: Path, ingest):
    Image.fromarray(np.zeros((24, 30), np.uint8)).save(raw / "lbl/train/scene_03.png")
    out = tmp_path / "out"
    words = ("scene_03.jpg", "32x24", "30x24")
    refused(ingest("folder", raw, "--spec", raw / "dataset.yaml", "--out", out), out, *words)


def test_value_outside_the_classes(raw: Path, tmp_path: Path, ingest):
    Image.fromarray(np.full((24, 32), 7, np.uint8)).save(raw / "lbl/train/scene_02.png")
    out = tmp_path / "out"
    refused(ingest("folder", raw, "--spec", raw / "dataset.yaml", "--out", out), out, "scene_02.png", "value 7", "0..2")


def test_truncated_jpeg(raw: Path, tmp_path: Path, ingest):
    path = raw / "img/train/scene_05.jpg"
    path.write_bytes(path.read_bytes()[:-200])
    out = tmp_path / "out"
    refused(ingest("folder", raw, "--spec", raw / "dataset.yaml", "--out", out), out, "scene_05.jpg", "truncated")


def test_existing_output_is_kept(raw: Path, tmp_path: Path, ingest):
    out = tmp_path / "out"
    out.mkdir()
    (out / "precious").write_text("mine")
    result = ingest("folder", raw, "--spec", raw / "dataset.yaml", "--out", out)
    assert result.returncode == 2 and "--out" in result.stderr
    assert [path.name for path in out.iterdir()] == ["precious"]


def test_skip_bad_lists_what_it_left_out(raw: Path, tmp_path: Path, ingest):
    (raw / "lbl/train/scene_03.png").unlink()
    (raw / "img/val/scene_12.jpg").write_bytes(b"junk")
    out = tmp_path / "out"
    result = ingest("folder", raw, "--spec", raw / "dataset.yaml", "--out", out, "--skip-bad", "--json")
    assert result.returncode == 0, result.stderr
    splits = json.loads(result.stdout)["splits"]
    assert (splits["train"]["samples"], splits["val"]["samples"]) == (9, 3)
    facts = manifest.load(out)
    assert [one.file for one in facts.splits["train"].skipped] == ["img/train/scene_03.jpg"]
    assert "not an image" in facts.splits["val"].skipped[0].reason
    assert ingest("verify", out, "--deep").returncode == 0


def test_dry_run_writes_nothing(raw: Path, tmp_path: Path, ingest):
    out = tmp_path / "out"
    result = ingest("folder", raw, "--spec", raw / "dataset.yaml", "--out", out, "--dry-run", "--json")
    assert json.loads(result.stdout)["train"]["images"] == 10
    assert not out.exists()


def test_colour_masks(tmp_path: Path, ingest):
    write_pair(tmp_path / "raw", "train", "one", 0)
    colours = np.array([[255, 0, 0], [0, 0, 255], [0, 0, 0]], np.uint8)
    ids = np.random.default_rng(1).integers(0, 3, (24, 32))
    Image.fromarray(colours[ids]).save(tmp_path / "raw/lbl/train/one.png")
    spec = tmp_path / "s.yaml"
    spec.write_text(
        "{name: s, classes: [red, blue], colors: {red: [255, 0, 0], blue: [[0, 0, 255]], ignore: [0, 0, 0]},"
        " splits: {train: {images: 'img/train/*', labels: 'lbl/train/*'}}}"
    )
    out = tmp_path / "out"
    result = ingest("folder", tmp_path / "raw", "--spec", spec, "--out", out)
    assert result.returncode == 0, result.stderr
    _, files = next(read_samples(out / "train-000000.tar"))
    stored = np.asarray(Image.open(io.BytesIO(files["seg.png"])))
    np.testing.assert_array_equal(stored, np.where(ids == 2, 255, ids))
