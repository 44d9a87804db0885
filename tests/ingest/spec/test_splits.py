"""Which files make a split: side by side, by lists, by shares; and what is said of odd ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ingest.datasets.folder import find, load_spec
from ingest.errors import UserError
from ingest.shards import manifest
from tests.ingest.conftest import write_pair


def spec(folder: Path, text: str):
    path = folder / "s.yaml"
    path.write_text("{name: s, classes: [sky, road, car], ignore: [9], " + text + "}")
    return load_spec(str(path))


def files(folder: Path, *names: str) -> None:
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"%d" % number)


def names(pairs) -> list[tuple[str, str | None]]:
    return [(pair.image.name, pair.label.name if pair.label else None) for pair in pairs]


def test_images_and_masks_side_by_side(tmp_path: Path) -> None:
    files(tmp_path, "d/a.png", "d/a_mask.png", "d/b.png", "d/b_mask.png")
    pairs = find(tmp_path, spec(tmp_path, "splits: {t: {images: 'd/*.png', labels: 'd/*_mask.png'}}")).splits["t"]
    assert names(pairs) == [("d/a.png", "d/a_mask.png"), ("d/b.png", "d/b_mask.png")]
    with pytest.raises(UserError, match="masks alone"):
        find(tmp_path, spec(tmp_path, "splits: {t: {images: 'd/*_mask.png', labels: 'd/*_mask.png'}}"))


def test_masks_that_go_with_no_image_are_told(tmp_path: Path) -> None:
    files(tmp_path, "i/a.jpg", "i/b.png", "i/c.jpg", "m/a.png", "m/b.png", "m/c.png")
    narrow = "images: 'i/*.jpg', labels: 'm/*.png', splits: "
    for splits in ("{t: {}}", "{t: 0.5, v: 0.5}"):
        (note,) = find(tmp_path, spec(tmp_path, narrow + splits)).notes
        assert note.startswith("note: 1 mask goes with no image") and "m/b.png" in note
    each = "splits: {t: {images: 'i/a.*', labels: 'm/a.*'}, v: {images: 'i/{b,c}.*', labels: 'm/{b,c}.*'}}"
    assert find(tmp_path, spec(tmp_path, each)).notes == []
    assert find(tmp_path, spec(tmp_path, narrow.replace("jpg", "*") + "{t: {}}"), ["t"]).notes == []
    (tmp_path / "m/a.png").unlink()
    (tmp_path / "m/a.png").symlink_to("nowhere")  # has an image; what is wrong with it is told there
    raw = find(tmp_path, spec(tmp_path, narrow.replace("jpg", "*") + "{t: {}}"), skip_bad=True)
    assert raw.notes == [] and len(raw.skipped["t"]) == 1
    (tmp_path / "l.txt").write_text("b\n")  # chosen on purpose
    assert find(tmp_path, spec(tmp_path, narrow.replace("jpg", "*") + "{t: {list: l.txt}}")).notes == []


def test_any_extension_and_any_case_of_it(tmp_path: Path) -> None:
    files(tmp_path, "i/a.jpg", "i/b.JPG", "i/c.png", "m/a.png", "m/b.png", "m/c.PNG")
    pairs = find(tmp_path, spec(tmp_path, "splits: {t: {images: 'i/*.*', labels: 'm/*.png'}}")).splits["t"]
    assert names(pairs) == [("i/a.jpg", "m/a.png"), ("i/b.JPG", "m/b.png"), ("i/c.png", "m/c.PNG")]
    with pytest.raises(UserError, match=r"i/a\.jpg differs in letter case alone"):
        find(tmp_path, spec(tmp_path, "splits: {t: {images: 'I/*.jpg', labels: 'm/*.png'}}"))


def test_lists_of_stems_and_of_pairs(tmp_path: Path) -> None:
    files(tmp_path, *(f"{kind}/{stem}.png" for kind in ("i", "m") for stem in ("a", "b", "c d")))
    (tmp_path / "train.txt").write_text("a\n\nc d\n")
    (tmp_path / "val.txt").write_text("/home/me/data/i/b.png /home/me/data/m/b.png\n")
    raw = find(
        tmp_path,
        spec(
            tmp_path,
            "images: 'i/*.png', labels: 'm/*.png', splits: {train: {list: train.txt}, val: {list: val.txt}}",
        ),
    )
    assert names(raw.splits["train"]) == [("i/a.png", "m/a.png"), ("i/c d.png", "m/c d.png")]
    assert names(raw.splits["val"]) == [("i/b.png", "m/b.png")]
    bare = find(tmp_path, spec(tmp_path, "splits: {val: {list: val.txt}}"))
    assert names(bare.splits["val"]) == [("i/b.png", "m/b.png")]
    (tmp_path / "train.txt").write_text("a\nzebra\n")
    with pytest.raises(UserError, match=r"train\.txt, line 2: 'zebra'"):
        find(tmp_path, spec(tmp_path, "images: 'i/*.png', labels: 'm/*.png', splits: {train: {list: train.txt}}"))
    with pytest.raises(UserError, match="no list 'nope'"):
        find(tmp_path, spec(tmp_path, "images: 'i/*.png', splits: {train: {list: nope}}"))


@pytest.mark.parametrize(
    "text",
    [
        b"\xef\xbb\xbfa\r\nb\r\n",  # as Windows' editors save it
        b"/home/ann/data/i/a.png\n/home/ann/data/i/b.png\n",
        b"C:\\data\\i\\a.png\nC:\\data\\i\\b.png\n",
        b"/i/a.png /m/a.png\n/i/b.png\t/m/b.png\n",
    ],
)
def test_lists_from_other_machines(tmp_path: Path, text: bytes) -> None:
    files(tmp_path, *(f"{kind}/{stem}.png" for kind in ("i", "m") for stem in ("a", "b", "c")))
    (tmp_path / "train.txt").write_bytes(text)
    of = "images: 'i/*.png', labels: 'm/*.png', splits: {train: {list: train.txt}}"
    pairs = find(tmp_path, spec(tmp_path, of)).splits["train"]
    assert names(pairs) == [("i/a.png", "m/a.png"), ("i/b.png", "m/b.png")]
    (tmp_path / "train.txt").write_text("/home/ann/data/other/a.png\n")  # another folder's picture of that name
    with pytest.raises(UserError, match=r"train\.txt, line 1: .*none of the 3 images"):
        find(tmp_path, spec(tmp_path, of))


def test_shares_keep_groups_together_and_do_not_depend_on_order(tmp_path: Path) -> None:
    files(tmp_path, *(f"i/scene{group:02d}_{tile}.png" for group in range(20) for tile in range(5)))
    text = "images: 'i/*.png', splits: {train: 0.7, val: 0.2, test: 0.1, seed: %d, group: 'scene(\\d+)'}"
    raw = find(tmp_path, spec(tmp_path, text % 0))
    groups = {split: {name[7:9] for name, _ in names(pairs)} for split, pairs in raw.splits.items()}
    assert [len(raw.splits[split]) for split in ("train", "val", "test")] == [70, 20, 10]
    assert not (groups["train"] & groups["val"] or groups["train"] & groups["test"] or groups["val"] & groups["test"])
    assert names(find(tmp_path, spec(tmp_path, text % 0)).splits["val"]) == names(raw.splits["val"])
    assert names(find(tmp_path, spec(tmp_path, text % 1)).splits["val"]) != names(raw.splits["val"])
    with pytest.raises(UserError, match="finds nothing in"):
        find(tmp_path, spec(tmp_path, "images: 'i/*.png', splits: {train: 0.5, val: 0.5, group: 'city'}"))
    with pytest.raises(UserError, match="1 groups"):
        find(tmp_path, spec(tmp_path, "images: 'i/*.png', splits: {train: 0.5, val: 0.5, group: 'scene'}"))


@pytest.mark.parametrize("count", [2, 3, 5])
def test_every_share_gets_something(tmp_path: Path, count: int) -> None:
    files(tmp_path, *(f"i/{number}.png" for number in range(count)))
    for seed in range(8):
        raw = find(tmp_path, spec(tmp_path, f"images: 'i/*.png', splits: {{train: 0.9, val: 0.1, seed: {seed}}}"))
        assert sorted(len(pairs) for pairs in raw.splits.values())[0] >= 1
        assert sum(len(pairs) for pairs in raw.splits.values()) == count


def test_the_same_image_in_two_splits_is_told(raw: Path, tmp_path: Path, quick) -> None:
    copy = (raw / "img/train/scene_02.jpg").read_bytes()
    (raw / "img/val/scene_12.jpg").write_bytes(copy)  # under another name
    out = tmp_path / "out"
    result = quick("folder", raw, "--spec", raw / "dataset.yaml", "--out", out)
    assert result.returncode == 0
    assert "warning: 1 image is in train and in val (such as img/train/scene_02.jpg)" in result.stderr
    text = (raw / "dataset.yaml").read_text().replace("img/val", "img/train").replace("lbl/val", "lbl/train")
    (raw / "dataset.yaml").write_text(text)
    result = quick("folder", raw, "--spec", raw / "dataset.yaml", "--out", out, "--dry-run")
    assert "warning: 10 images are in train and in val" in result.stderr


BINARY = "splits: {train: {images: 'img/train/*', labels: 'lbl/train/*'}}"


def binary(folder: Path, values: tuple[int, ...]) -> None:
    for number in range(3):
        write_pair(folder, "train", f"{number}", number)
        mask = np.random.default_rng(number).choice(np.array(values, np.uint8), (24, 32))
        Image.fromarray(mask).save(folder / f"lbl/train/{number}.png")


def test_masks_of_0_and_255_are_two_classes(tmp_path: Path, ingest) -> None:
    binary(tmp_path / "raw", (0, 255))
    path, out = tmp_path / "s.yaml", tmp_path / "out"
    path.write_text("{name: s, classes: [background, road], " + BINARY + "}")
    result = ingest("folder", tmp_path / "raw", "--spec", path, "--out", out)
    assert result.returncode == 0, result.stderr
    assert "note: the masks hold 0 and 255 alone: taken as the two classes" in result.stderr
    split = manifest.load(out).splits["train"]
    assert min(split.class_pixels) > 900 and split.ignored_pixels == 0
    path.write_text("{name: s, classes: [road, background], ids: {0: background, 255: road}, " + BINARY + "}")
    result = ingest("folder", tmp_path / "raw", "--spec", path, "--out", tmp_path / "out2")
    assert result.returncode == 0 and "note" not in result.stderr.replace("note: train", "")
    assert manifest.load(tmp_path / "out2").splits["train"].class_pixels == split.class_pixels[::-1]


@pytest.mark.parametrize(
    ("values", "spec_text", "words"),
    [
        ((0, 255), "classes: [road]", ["one class, 'road'", "background"]),
        ((0, 255), "classes: [a, b, c]", ["'a' alone", "hold 0, 255", "ids:"]),
        ((0, 255), "classes: [a, b], ignore: [255]", ["'a' alone", "all else is ignored"]),
        ((1,), "classes: [a, b]", ["'b' alone", "hold 1"]),
        ((255,), "classes: [a, b]", ["no class at all"]),
    ],
)
def test_what_trains_nothing_is_refused(
    tmp_path: Path, quick, values: tuple[int, ...], spec_text: str, words: list[str]
) -> None:
    binary(tmp_path / "raw", values)
    path, out = tmp_path / "s.yaml", tmp_path / "out"
    path.write_text("{name: s, " + spec_text + ", " + BINARY + "}")
    result = quick("folder", tmp_path / "raw", "--spec", path, "--out", out)
    assert result.returncode == 2 and len(result.stderr.splitlines()) == 1 and not out.exists()
    for word in words:
        assert word in result.stderr


def test_a_polygon_file_given_as_a_mask_is_told_how_to_read(tmp_path: Path) -> None:
    files(tmp_path, "i/a.jpg", "m/a.json", "t/a.txt")
    (tmp_path / "m/a.json").write_text('{"shapes": [], "imageData": null}')
    with pytest.raises(UserError, match=r"m/a\.json holds shapes \(LabelMe json\).*form: labelme"):
        find(tmp_path, spec(tmp_path, "splits: {t: {images: 'i/*', labels: 'm/*'}}"))
    with pytest.raises(UserError, match=r"t/a\.txt is no mask"):
        find(tmp_path, spec(tmp_path, "splits: {t: {images: 'i/*', labels: 't/*'}}"))


def test_names_that_are_odd_stay_on_one_line(tmp_path: Path, quick) -> None:
    write_pair(tmp_path / "raw", "train", "a\nb", 0)
    write_pair(tmp_path / "raw", "train", "fine", 1)
    folder = tmp_path / "raw"
    (folder / "lbl/train/a\nb.png").unlink()
    path = tmp_path / "s.yaml"
    path.write_text("{name: s, classes: [a, b, c], ignore: [9], " + BINARY + "}")
    result = quick("folder", folder, "--spec", path, "--out", tmp_path / "out")
    assert result.returncode == 2 and len(result.stderr.splitlines()) == 1 and "a\\nb.jpg" in result.stderr


def test_names_that_are_no_utf8(tmp_path: Path, ingest) -> None:
    write_pair(tmp_path / "raw", "train", "fine", 1)
    write_pair(tmp_path / "raw", "train", "bytes\udcff", 2)
    path = tmp_path / "s.yaml"
    path.write_text("{name: s, classes: [a, b, c], ignore: [9], " + BINARY + "}")
    result = ingest("folder", tmp_path / "raw", "--spec", path, "--out", tmp_path / "out", "--workers", 1)
    assert result.returncode == 0, result.stderr
    assert manifest.load(tmp_path / "out").splits["train"].samples == 2


@pytest.mark.parametrize("tile", [[], ["--tile", "24x16"]])
def test_colors_that_match_no_class_are_counted_and_said(tmp_path: Path, quick, tile: list[str]) -> None:
    colors = np.array([[0, 0, 0], [200, 0, 0], [100, 100, 0]], np.uint8)
    strays = 0
    for number in range(3):
        write_pair(tmp_path / "raw", "train", f"{number}", number)
        ids = np.random.default_rng(number).choice(3, (24, 32), p=[0.5, 0.4, 0.1])
        strays += int((ids == 2).sum())
        Image.fromarray(colors[ids]).save(tmp_path / f"raw/lbl/train/{number}.png")
    path, out = tmp_path / "s.yaml", tmp_path / "out"
    text = "{name: s, classes: [black, red], colors: {black: [0, 0, 9], red: [199, 1, 0]}, tolerance: 30, "
    path.write_text(text + BINARY + "}")
    result = quick("folder", tmp_path / "raw", "--spec", path, "--out", out, *tile)
    assert result.returncode == 0, result.stderr
    assert f"note: {strays} pixels" in result.stdout + result.stderr
    assert manifest.load(out).splits["train"].ignored_pixels == strays
    assert quick("verify", out, "--deep").returncode == 0
