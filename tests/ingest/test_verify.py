"""verify notices every kind of damage; stats and sheets come from the same files."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from ingest import stats, writer
from ingest.__main__ import main
from ingest.datasets.folder import find, load_spec
from ingest.errors import UserError
from ingest.reindex import reindex
from ingest.shards import manifest
from ingest.show import sheet
from ingest.verify import verify
from tests.shard_folder import as_schema_1


@pytest.fixture
def shards(raw: Path, tmp_path: Path) -> Path:
    found = find(raw, load_spec(str(raw / "dataset.yaml")))
    out = tmp_path / "out"
    writer.write(found, out, writer.Settings(shard_size=10**9, seed=0, command="", options={}))
    return out


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 255
    path.write_bytes(bytes(data))


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda out: flip(out / "train-000000.tar", 5000), r"train-000000\.tar .*sha256"),
        (lambda out: (out / "val-000000.tar").unlink(), r"val-000000\.tar is missing"),
        (lambda out: (out / "val-000000.tar").write_bytes(b"x"), r"val-000000\.tar has 1 bytes"),
        (lambda out: flip(out / "train-000000.idx", 12), r"train-000000\.idx does not match"),
        (lambda out: (out / "train-000000.json").unlink(), r"train-000000\.json is missing"),
        (lambda out: (out / "train-000009.tar").write_bytes(b""), r"train-000009\.tar is not listed"),
        (lambda out: (out / "dataset.json").unlink(), r"no dataset\.json"),
    ],
)
def test_damage_is_named(shards: Path, damage, words: str):
    verify(shards, deep=True)
    damage(shards)
    with pytest.raises(UserError, match=words):
        verify(shards)


def test_deep_counts_again(shards: Path):
    """What sums cannot tell: a record that says otherwise than the pixels, all its sums in order."""
    record = manifest.load_shard(shards, "train-000000")
    changed = dataclasses.replace(record, channel_sum=[record.channel_sum[0] + 1, *record.channel_sum[1:]])
    manifest.save_shard(changed, shards)
    with pytest.raises(UserError, match=r"train-000000\.json is not the file that was ingested"):
        verify(shards)
    reindex(shards)
    verify(shards)
    with pytest.raises(UserError, match="channel sums"):
        verify(shards, deep=True)


def test_stats_are_those_of_the_labels(shards: Path, raw: Path, tmp_path: Path):
    pixels, of_images = np.zeros(256, np.int64), np.zeros(256, np.int64)
    for path in (raw / "lbl/train").iterdir():
        counts = np.bincount(np.asarray(Image.open(path)).ravel(), minlength=256)
        pixels += counts
        of_images += counts.sum() * (counts > 0)
    found = stats.measure(shards, "train")
    shares = pixels[:3] / pixels[:3].sum()
    np.testing.assert_allclose([one.share for one in found.classes], shares)
    per_image = pixels[:3] / of_images[:3]  # the papers' shares: of the images that show the class
    np.testing.assert_allclose([one.median_weight for one in found.classes], np.median(per_image) / per_image)
    np.testing.assert_allclose([one.inverse_weight for one in found.classes], 1 / (3 * shares))
    assert json.loads(stats.as_json(found))["samples"] == 10 and "road" in stats.as_table(found)
    assert stats.draw(found).size[1] > 60
    with pytest.raises(UserError, match="no split 'test'"):
        stats.measure(shards, "test")


def test_stats_tell_a_trace_from_nothing():
    shares = (("road", 1_000_000), ("pole", 30), ("fence", 0))
    classes = [stats.ClassStats(name, [200, 0, 0], pixels, pixels / 1_000_030, 1.0, 1.0) for name, pixels in shares]
    sizes = {"median": [8, 8]}
    found = stats.Stats("streets", "train", 2, 0.0, sizes, [0.5] * 3, [0.25] * 3, classes)
    text = stats.as_table(found)
    assert [line.split()[2] for line in text.splitlines() if line.startswith(("pole", "fence"))] == ["<0.01%", "-"]
    assert " 0.00%" not in text and text.endswith("; no pixels ignored")
    red = (np.asarray(stats.draw(found)) == (200, 0, 0)).all(-1)
    assert not red[70:].any()  # fence, the third line, has no bar


def test_a_sheet_shows_the_label_colors(shards: Path):
    page = np.asarray(sheet(shards, "val", 4))
    for color in manifest.load(shards).palette:  # the legend's swatches
        assert (page == np.array(color, np.uint8)).all(-1).any()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["show", "--out", "x.xyz"], "a picture is drawn, so give a name that ends in .png"),
        (["show", "--out", "x"], "a picture is drawn"),
        (["show", "--out", "."], "a picture is drawn"),
        (["show", "--out", "folder.png"], "is a folder"),
        (["show", "--out", "missing/x.png"], "missing does not exist"),
        (["stats", "--plot", "x"], "a picture is drawn"),
        (["stats", "--plot", "x.xyz"], "a picture is drawn"),
    ],
)
def test_a_picture_that_cannot_be_written_is_told_before_the_work(
    shards: Path, tmp_path: Path, words: list[str], message: str
):
    (tmp_path / "folder.png").mkdir()
    assert message in told(words[0], shards, words[1], tmp_path / words[2])


def told(*words: object) -> str:
    """The one line that a command ends with."""
    done = CliRunner().invoke(main, [str(word) for word in words])
    assert isinstance(done.exception, UserError), done.output
    assert "\n" not in str(done.exception) and not done.stdout
    return str(done.exception)


def test_a_sheet_of_damaged_shards_is_told_of(shards: Path, tmp_path: Path):
    tar = shards / "train-000000.tar"
    whole = tar.read_bytes()
    for damaged, message in (
        (whole[:3000], "has 3000 bytes"),
        (whole[:700] + b"x" + whole[701:], "is not as it was ingested"),
    ):
        tar.write_bytes(damaged)
        assert message in told("show", shards, "--out", tmp_path / "x.png")
        assert not (tmp_path / "x.png").exists()


@pytest.mark.parametrize("command", ["verify", "reindex", "show", "stats"])
def test_what_is_no_shard_folder_is_told(shards: Path, tmp_path: Path, command: str):
    assert "is a file, not a shard folder" in told(command, shards / "dataset.json")
    assert "does not exist" in told(command, tmp_path / "missing")


def test_reindex_from_the_command_line(shards: Path, ingest):
    as_schema_1(shards)
    verify(shards)
    done = ingest("reindex", shards)
    assert done.returncode == 0 and "14 samples indexed in schema 2; the tars are as they were" in done.stdout
    verify(shards, deep=True)


def said(*words: object) -> str:
    """What a command prints that goes well."""
    done = CliRunner().invoke(main, [str(word) for word in words])
    assert done.exit_code == 0, done.output
    return done.stdout


def test_an_edit_that_was_signed_is_told(shards: Path):
    path = shards / "dataset.json"
    assert said("verify", shards).endswith("whole and as ingested\n") and '"edited"' not in path.read_text()
    said("reindex", shards, "--edited")  # though nothing was
    assert said("verify", shards).endswith("whole and as ingested\n")
    path.write_text(path.read_text().replace('"road"', '"street"'))
    said("reindex", shards, "--edited")
    for _ in range(2):
        assert said("verify", shards).endswith("ingested; dataset.json is as signed after an edit (reindex --edited)\n")
        said("reindex", shards)


def test_bars_of_many_classes_fit_a_screen():
    colors = [[200, number, 0] for number in range(150)]
    classes = [stats.ClassStats("class", color, 150 - color[1], 0.01, 1.0, 1.0) for color in colors]
    found = stats.Stats("s", "train", 2, 0.0, {"median": [8, 8]}, [0.5] * 3, [0.25] * 3, classes)
    page = np.asarray(stats.draw(found))
    assert page.shape[0] < 900 and page.shape[1] < 2000
    assert all((page == color).all(-1).sum() > 100 for color in colors)  # a bar each, none over another


def test_without_a_train_split_what_there_is_is_shown(raw: Path, tmp_path: Path):
    found = find(raw, load_spec(str(raw / "dataset.yaml")), ["val"])
    out = tmp_path / "out"
    writer.write(found, out, writer.Settings(shard_size=10**9, seed=0, command="", options={}))
    assert "tiny val: 4 samples" in said("stats", out)
    said("show", out, "--out", tmp_path / "x.png")
    assert Image.open(tmp_path / "x.png").size[0] > 100
