"""Folders as people have them, to shards in one command: what is concluded, and that the labels are the true ones."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ingest.datasets.folder import find
from ingest.errors import UserError
from ingest.inspect.draft import draft
from ingest.inspect.findings import Draft
from ingest.inspect.text import text
from ingest.shards import manifest
from ingest.shards.tar import read_samples
from ingest.sources.trees import Tree
from ingest.spec.schema import check
from ingest.spec.yaml_file import parse
from tests.ingest.forms.label_exports import CLASSES, EXPORTS, SCENES, truth, write_images

HW = (48, 64)
COLORS = np.array([[0, 0, 0], [200, 30, 30], [30, 200, 30]], np.uint8)


def picture(seed: int) -> Image.Image:
    """Smooth, with noise: as many colors as a photo has."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: HW[0], : HW[1]]
    waves = [120 + 60 * np.sin(y / 9 + seed) + 40 * np.cos(x / (7 + channel)) for channel in range(3)]
    return Image.fromarray((np.stack(waves, 2) + rng.normal(0, 6, (*HW, 3))).clip(0, 255).astype(np.uint8))


def mask(seed: int) -> np.ndarray:
    """Blocks of 0, 1 and 2, each there."""
    blocks = np.random.default_rng(seed).integers(0, 3, (3, 4)).astype(np.uint8)
    blocks[0, :3] = (0, 1, 2)
    return np.kron(blocks, np.ones((16, 16), np.uint8))


def save(image: Image.Image | np.ndarray, path: Path, **options: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    (Image.fromarray(image) if isinstance(image, np.ndarray) else image).save(path, **options)


def concluded(folder: Path) -> tuple[Draft, dict[str, list[np.ndarray]]]:
    """The draft, and per split the labels that its spec reads from the folder, as stored."""
    from ingest.convert import Converted, Rules, convert

    made = draft(Tree(folder))
    raw = find(folder, check(parse(text(made).encode(), "drafted"), "drafted"))
    rules = Rules(raw.labels, tuple(raw.classes))
    labels: dict[str, list[np.ndarray]] = {}
    for split, pairs in raw.splits.items():
        for pair in sorted(pairs, key=lambda one: one.image.name):
            done = convert(pair, rules)
            assert isinstance(done, Converted)
            if done.label is not None:
                labels.setdefault(split, []).append(np.asarray(Image.open(io.BytesIO(done.label))))
    return made, labels


def same(labels: dict[str, list[np.ndarray]], expected: Callable[[int], np.ndarray], count: int) -> None:
    """All splits together hold the expected labels, in any order."""
    found = sorted(label.tobytes() for mine in labels.values() for label in mine)
    assert found == sorted(expected(number).astype(np.uint8).tobytes() for number in range(count))


def test_side_by_side_and_binary(tmp_path: Path) -> None:
    for number in range(6):
        save(picture(number), tmp_path / f"d/cell {number:02d}.png")
        save((mask(number) > 0).astype(np.uint8) * 255, tmp_path / f"d/cell {number:02d}_mask.png")
    made, labels = concluded(tmp_path)
    same(labels, lambda number: mask(number) > 0, 6)
    assert sorted(labels) == ["train", "val"] and made.meaning.classes == ["background", "object"]
    assert len(made.examples) == 3 and all(label.startswith(image[:-4]) for image, label in made.examples)


@pytest.mark.parametrize("ext", ["png", "bmp", "tif", "npy", "mat"])
def test_index_masks_in_folders_of_splits(tmp_path: Path, ext: str) -> None:
    import scipy.io

    for number in range(6):
        split = "valid" if number > 3 else "train"
        save(picture(number), tmp_path / f"{split}/images/{number}.jpg")
        path = tmp_path / f"{split}/masks/{number}.{ext}"
        path.parent.mkdir(parents=True, exist_ok=True)
        if ext == "npy":
            np.save(path, mask(number))
        elif ext == "mat":
            scipy.io.savemat(path, {"groundtruth": mask(number)})
        else:
            save(mask(number), path)
    (tmp_path / "classes.txt").write_text("sky\nroad\nno\n")
    made, labels = concluded(tmp_path)
    same(labels, mask, 6)
    assert made.meaning.classes == ["sky", "road", "no"] and {k: len(v) for k, v in labels.items()} == {
        "train": 4,
        "val": 2,
    }


@pytest.mark.parametrize("form", ["exact", "palette", "jpeg", "soft", "labelmap"])
def test_color_masks_with_a_table_of_names(tmp_path: Path, form: str) -> None:
    for number in range(4):
        save(picture(number), tmp_path / f"JPEGs/{number}.jpg", quality=95)
        rgb = Image.fromarray(COLORS[mask(number)])
        if form == "palette":
            rgb = rgb.quantize(4)
        if form == "soft":
            rgb = rgb.resize((128, 96), Image.Resampling.BILINEAR).resize((64, 48), Image.Resampling.BILINEAR)
        save(
            rgb,
            tmp_path / f"gt/{number}.{'jpg' if form == 'jpeg' else 'png'}",
            **({"quality": 95} if form == "jpeg" else {}),
        )
    if form == "labelmap":  # as CVAT exports it
        lines = ["# label:color_rgb:parts:actions", "nothing:0,0,0::", "a:200,30,30::", "b:30,200,30::"]
        (tmp_path / "labelmap.txt").write_text("\n".join(lines) + "\n")
    else:
        with open(tmp_path / "class_dict.csv", "w") as file:
            csv.writer(file).writerows(
                [["name", "r", "g", "b"], ["nothing", 0, 0, 0], ["a", 200, 30, 30], ["b", 30, 200, 30]]
            )
    made, labels = concluded(tmp_path)
    assert made.meaning.classes == ["nothing", "a", "b"]
    assert bool(made.meaning.tolerance) == (form in ("jpeg", "soft"))
    if form in ("exact", "palette", "labelmap"):
        same(labels, mask, 4)
    else:
        every = [label for mine in labels.values() for label in mine]
        for number in range(4):  # one of them is this mask, but for edges
            agree = [(label == mask(number))[label != 255].mean() for label in every]
            assert max(agree) > 0.98 and (every[int(np.argmax(agree))] != 255).mean() > 0.8


def test_colors_without_names_and_gray_levels_with_soft_edges(tmp_path: Path) -> None:
    for number in range(4):
        save(picture(number), tmp_path / f"a/img/{number}.jpg")
        save(COLORS[mask(number)], tmp_path / f"a/lab/{number}.png")
        save(picture(number), tmp_path / f"b/img/{number}.jpg")
        save((mask(number) > 0).astype(np.uint8) * 255, tmp_path / f"b/lab/{number}.jpg", quality=80)
    made, labels = concluded(tmp_path / "a")
    assert made.meaning.classes[0] == "background" and len(made.meaning.classes) == 3
    order = [tuple(color) for color in (made.meaning.colors or {}).values()]
    same(labels, lambda number: np.array([order.index(tuple(c)) for c in COLORS.tolist()])[mask(number)], 4)
    made, labels = concluded(tmp_path / "b")
    assert made.meaning.classes == ["background", "object"]
    assert sum((label == 1).sum() for mine in labels.values() for label in mine) > 0.9 * sum(
        (mask(number) > 0).sum() for number in range(4)
    )


@pytest.mark.parametrize("cities", [2, 8])
def test_several_masks_an_image_cities_and_endings(tmp_path: Path, cities: int) -> None:
    for number in range(8):
        city, split = f"city{number % cities}", "val" if number > 5 else "train"
        stem = f"{city}_{number:06d}"
        save(picture(number), tmp_path / f"left/{split}/{city}/{stem}_leftImg.png")
        save(mask(number), tmp_path / f"gt/{split}/{city}/{stem}_gt_labelIds.png")
        save(COLORS[mask(number)], tmp_path / f"gt/{split}/{city}/{stem}_gt_color.png")
    made, labels = concluded(tmp_path)
    same(labels, mask, 8)
    assert made.splits[0].images == "left/train/*/*_leftImg.png"
    assert any("_gt_color.png" in doubt for doubt in made.doubts)


def test_lists_name_the_splits(tmp_path: Path) -> None:
    for number in range(5):
        save(picture(number), tmp_path / f"im/{number}.jpg")
        save(mask(number), tmp_path / f"lab/{number}.png")
    (tmp_path / "sets").mkdir()
    (tmp_path / "sets/train.txt").write_text("0\n1\n2\n")
    (tmp_path / "sets/val.txt").write_text("3\n4\n")
    made, labels = concluded(tmp_path)
    assert {split: len(mine) for split, mine in labels.items()} == {"train": 3, "val": 2}
    np.testing.assert_array_equal(labels["val"][0], mask(3))
    assert not any("no val split" in doubt for doubt in made.doubts)
    (tmp_path / "sets/val.txt").unlink()
    made, labels = concluded(tmp_path)
    assert list(labels) == ["train"] and any("no val split" in doubt for doubt in made.doubts)


def test_a_folder_of_validation_images_alone(tmp_path: Path) -> None:
    for number in range(3):
        save(picture(number), tmp_path / f"images/val/{number}.jpg")
        save(mask(number), tmp_path / f"masks/val/{number}.png")
    made, labels = concluded(tmp_path)
    assert list(labels) == ["val"] and any("no train split" in doubt for doubt in made.doubts)


def test_values_that_begin_at_1(tmp_path: Path) -> None:
    for number in range(3):
        save(picture(number), tmp_path / f"im/{number}.jpg")
        save(mask(number) + 1, tmp_path / f"lab/{number}.png")
    made, _ = concluded(tmp_path)
    assert made.meaning.classes == ["class_0", "class_1", "class_2", "class_3"]
    assert any("no mask that was read holds 0" in doubt for doubt in made.doubts)


@pytest.mark.parametrize("parent", ["d/", "d/{}/", ""])
def test_a_folder_for_each_sample(tmp_path: Path, parent: str) -> None:
    for number in range(8):
        folder = tmp_path / parent.format("val" if number > 5 else "train") / f"{number:03d}"
        save(picture(number), folder / "image.png")
        save(mask(number), folder / "mask.png")
    made, labels = concluded(tmp_path)
    same(labels, mask, 8)
    assert sorted(labels) == ["train", "val"]
    assert all(Path(image).parent == Path(label).parent for image, label in made.examples)


def test_few_samples_of_many_kinds_have_no_folder_each(tmp_path: Path) -> None:
    for number, stem in enumerate(("cat", "cow", "dog", "hen")):
        save(picture(number), tmp_path / f"images/{stem}.jpg")
        for folder in ("masks", "more"):
            save(mask(number), tmp_path / f"{folder}/{stem}.png")
    _, labels = concluded(tmp_path)
    same(labels, mask, 4)


def test_values_and_names_in_a_table(tmp_path: Path) -> None:
    for number in range(4):
        save(picture(number), tmp_path / f"train/{number}.jpg")
        save(mask(number), tmp_path / f"train/{number}_mask.png")
    (tmp_path / "train/_classes.csv").write_text("Pixel Value, Class\n0, background\n1, crack\n2, hole\n")
    made, labels = concluded(tmp_path)
    same(labels, mask, 4)
    assert made.meaning.classes == ["background", "crack", "hole"]


def test_endings_of_tiles_are_no_kinds_of_files(tmp_path: Path) -> None:
    """Each tile goes with its own mask, not all tiles of a scene with the first one's."""
    true = {}
    for scene in range(4):
        for tile in ("tile0", "tile1", "tile2"):
            stem = f"scene{scene}_{tile}"
            true[stem] = mask(len(true))
            save(picture(len(true)), tmp_path / f"img/{stem}.png")
            save(true[stem], tmp_path / f"lbl/{stem}.png")
    made, labels = concluded(tmp_path)
    found = [one.tobytes() for split in labels.values() for one in split]
    assert sorted(found) == sorted(one.tobytes() for one in true.values())
    assert all(Path(image).name == Path(label).name for image, label in made.examples)


def test_a_spec_beside_the_data_is_named(raw: Path) -> None:
    (raw / "data.yaml").write_text("names: [a, b]\nnc: 2\n")  # YOLO's: no spec
    assert [one for one in draft(Tree(raw)).doubts if "--spec" in one] == [
        f"{raw / 'dataset.yaml'} is a spec: if it is of these files, go by it: --spec {raw / 'dataset.yaml'}"
    ]


def test_a_competitions_test_images_and_groups(tmp_path: Path) -> None:
    for number in range(24):
        stem = f"drive{number // 4}_{number % 4:03d}"
        save(picture(number), tmp_path / f"train/images/{stem}.jpg")
        save(mask(number), tmp_path / f"train/labels/{stem}.png")
        save(picture(number), tmp_path / f"test/images/{number}.jpg")
    made, labels = concluded(tmp_path)
    assert sorted(labels) == ["train", "val"] and [split.name for split in made.splits] == ["test"]
    assert "stay together" in " ".join(made.doubts)
    raw = find(tmp_path, check(parse(text(made).encode(), "drafted"), "drafted"))
    drives = {split: {pair.image.name.split("/")[-1][:6] for pair in raw.splits[split]} for split in ("train", "val")}
    assert drives["train"] and drives["val"] and not drives["train"] & drives["val"]
    assert len(raw.splits["test"]) == 24


@pytest.mark.parametrize("form", ["labelme", "coco"])
def test_annotation_files(tmp_path: Path, form: str) -> None:
    square = [[16.0, 16.0], [31.0, 16.0], [31.0, 31.0], [16.0, 31.0]]
    for number in range(3):
        save(picture(number), tmp_path / f"photos/{number}.jpg")
        shape = {"label": "barn", "points": square, "shape_type": "polygon"}
        if form == "labelme":
            held = {
                "shapes": [shape],
                "imagePath": f"{number}.jpg",
                "imageHeight": 48,
                "imageWidth": 64,
                "imageData": None,
            }
            (tmp_path / f"photos/{number}.json").write_text(json.dumps(held))
    if form == "coco":
        images = [{"id": n, "file_name": f"{n}.jpg", "height": 48, "width": 64} for n in range(3)]
        flat = [value for point in square for value in point]
        objects = [
            {"id": n, "image_id": n, "category_id": 7, "segmentation": [flat], "iscrowd": 0, "area": 1, "bbox": [0] * 4}
            for n in range(3)
        ]
        held = {"images": images, "annotations": objects, "categories": [{"id": 7, "name": "barn"}]}
        (tmp_path / "annotations.json").write_text(json.dumps(held))
    made, labels = concluded(tmp_path)
    assert made.meaning.classes == ["background", "barn"]
    expected = np.zeros(HW, np.uint8)
    expected[16:32, 16:32] = 1
    same(labels, lambda number: expected, 3)


@pytest.mark.parametrize("form", EXPORTS)
def test_every_label_form_is_concluded(tmp_path: Path, form: str) -> None:
    """The drafted spec gives the masks that the form's own spec gives: no image is taken for one without a label."""
    raw = tmp_path / "raw"
    write_images(raw)
    EXPORTS[form](raw)
    made, labels = concluded(raw)
    assert set(made.meaning.classes) == {"background", "car", "tree", "dog"}, made.doubts
    assert not any("for prediction" in note for note in made.notes)
    order = np.array([CLASSES.index(name) for name in made.meaning.classes], np.uint8)
    found = sorted(order[label].tobytes() for mine in labels.values() for label in mine)
    assert found == sorted(truth(scene).tobytes() for scene in SCENES.values())


@pytest.mark.parametrize(
    ("form", "file", "content"),
    [
        ("yolo", "labels/one.txt", b"0 nan nan 0.1 0.2 0.3 0.4\n"),
        ("yolo", "labels/one.txt", b"\0\1\2"),
        ("labelme", "images/one.json", b'{"shapes": ['),
        ("cityscapes", "gt/one_gtFine_polygons.json", b""),
    ],
)
def test_broken_annotations_are_not_passed_over(tmp_path: Path, form: str, file: str, content: bytes, quick) -> None:
    """Else the image would be one without a file, which for YOLO shows background alone."""
    raw = tmp_path / "raw"
    write_images(raw)
    EXPORTS[form](raw)
    (raw / file).write_bytes(content)
    made = draft(Tree(raw))
    assert any(doubt.startswith(f"not all could be read: {file}") for doubt in made.doubts), made.doubts
    done = quick("folder", raw, "--out", tmp_path / "out", "--yes")
    assert done.returncode == 2 and f"error: {file}" in done.stderr


def test_scenes_of_twelve_bands_from_the_command_line(tmp_path: Path, quick) -> None:
    import tifffile

    rng = np.random.default_rng(0)
    for number in range(4):
        for kind in ("images", "labels"):
            (tmp_path / f"raw/{kind}").mkdir(parents=True, exist_ok=True)
        scene = rng.normal(400, 200, (*HW, 12)).astype(np.int16)
        tifffile.imwrite(tmp_path / f"raw/images/{number}.tif", scene, photometric="minisblack", planarconfig="contig")
        save((mask(number) > 0).astype(np.uint8), tmp_path / f"raw/labels/{number}.png")
    out = tmp_path / "out"
    result = quick("folder", tmp_path / "raw", "--out", out, "--yes", "--json")
    assert result.returncode == 0, result.stderr + result.stdout
    assert json.loads(result.stdout)["out"] == str(out) and "for example" in result.stderr
    facts = manifest.load(out)
    assert facts.channels == 12 and facts.pixels["percentiles"] == [2, 98]
    assert sum(split.samples for split in facts.splits.values()) == 4
    assert 0.4 < facts.mean[0] < 0.6


def test_four_bands_of_eight_bits(tmp_path: Path) -> None:
    import tifffile

    for number in range(3):
        scene = np.random.default_rng(number).integers(0, 256, (*HW, 4), dtype=np.uint8)
        (tmp_path / "img").mkdir(exist_ok=True)
        tifffile.imwrite(tmp_path / f"img/{number}.tif", scene, photometric="rgb", extrasamples=[0])
        save(mask(number), tmp_path / f"lbl/{number}.png")
    assert draft(Tree(tmp_path)).bands == [1, 2, 3, 4]


@pytest.mark.parametrize("answer", ["y", "n"])
def test_at_a_terminal_it_asks(raw: Path, tmp_path: Path, monkeypatch, quick, answer: str) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr("tests.ingest.conftest.STDIN", lambda: Terminal(f"{answer}\n"))
    result = quick("folder", raw, "--out", tmp_path / "out")
    assert result.returncode == 0 and f"Ingest by {tmp_path / 'out.yaml'} as it is?" in result.stdout
    assert (tmp_path / "out").exists() == (answer == "y")


def test_without_a_terminal_it_stops_with_the_spec_written(raw: Path, tmp_path: Path, ingest) -> None:
    (raw / "dataset.yaml").unlink()
    out = tmp_path / "out"
    result = ingest("folder", raw, "--out", out)
    assert result.returncode == 0 and not out.exists() and (tmp_path / "out.yaml").exists()
    assert f"python -m ingest folder {raw} --out {out} --spec {tmp_path / 'out.yaml'}\n" in result.stdout
    again = ingest("folder", raw, "--out", out)
    assert again.returncode == 2 and "--spec" in again.stderr and len(again.stderr.splitlines()) == 1
    result = ingest("folder", raw, "--out", out, "--spec", tmp_path / "out.yaml")
    assert result.returncode == 0, result.stderr
    assert len(dict(read_samples(out / "train-000000.tar"))) == 10
    looked = ingest("inspect", raw)
    assert looked.returncode == 0 and "img/train/scene_00.jpg  with  lbl/train/scene_00.png" in looked.stdout
    assert (tmp_path / "out.yaml").read_text().split("name:")[1] in looked.stdout


@pytest.mark.parametrize("what", ["nothing", "images alone", "text alone"])
def test_what_cannot_be_concluded_is_told(tmp_path: Path, quick, what: str) -> None:
    (tmp_path / "raw").mkdir()
    if what == "images alone":
        save(picture(0), tmp_path / "raw/a.jpg")
    elif what == "text alone":
        (tmp_path / "raw/a.txt").write_text("hello")
    result = quick("folder", tmp_path / "raw", "--out", tmp_path / "out", "--yes")
    assert result.returncode == 2 and len(result.stderr.splitlines()) == 1
    assert not (tmp_path / "out.yaml").exists()


def test_gray_photographs_with_annotation_files(tmp_path: Path) -> None:
    """X-rays look like masks; there are no other images."""
    for stem in ("a", "b", "c", "d"):
        save(picture(ord(stem)).convert("L"), tmp_path / f"images/{stem}.png")
        (tmp_path / "labels").mkdir(exist_ok=True)
        (tmp_path / f"labels/{stem}.txt").write_text("1 0.1 0.1 0.9 0.1 0.9 0.8\n")
    (tmp_path / "data.yaml").write_text("names: [gum, tooth]\n")
    made, labels = concluded(tmp_path)
    assert made.meaning.classes == ["background", "gum", "tooth"]
    assert all(set(np.unique(one)) == {0, 2} for split in labels.values() for one in split)


def test_class_names_in_a_mat_file(tmp_path: Path) -> None:
    import scipy.io

    for number in range(4):
        save(picture(number), tmp_path / f"photos/{number}.jpg")
        (tmp_path / "truth").mkdir(exist_ok=True)
        scipy.io.savemat(tmp_path / f"truth/{number}.mat", {"groundtruth": mask(number)})
    names = np.array(["null", "no", "7"], dtype=object)
    scipy.io.savemat(tmp_path / "label_list.mat", {"label_list": names})
    made, labels = concluded(tmp_path)
    assert made.meaning.classes == ["null", "no", "7"]
    assert sum(len(split) for split in labels.values()) == 4


def test_annotation_files_that_say_the_same(tmp_path: Path) -> None:
    """Of two files for the same images one is taken; a folder that none is of is for prediction."""
    square = {"name": "polygon", "all_points_x": [5, 40, 40], "all_points_y": [5, 5, 40]}
    region = {"shape_attributes": square, "region_attributes": {"kind": "dent"}}
    for split in ("train", "val", "test"):
        for number in range(4):
            save(picture(number), tmp_path / split / f"{split}{number}.jpg")
    for split in ("train", "val"):
        held = {f"{n}": {"filename": f"{split}{n}.jpg", "size": -1, "regions": [region]} for n in range(4)}
        (tmp_path / split / "via_all.json").write_text(json.dumps(held))
        (tmp_path / split / "via_some.json").write_text(json.dumps({"0": held["0"]}))
        (tmp_path / split / "attributes.json").write_text(json.dumps({"attributes": {"region": {}}}))
    made, labels = concluded(tmp_path)
    assert any("via_some.json annotates the same images" in doubt for doubt in made.doubts)
    assert any("for prediction" in note for note in made.notes)
    assert {split: len(mine) for split, mine in labels.items()} == {"train": 4, "val": 4}


def test_array_files_of_several_matrices_are_told(tmp_path: Path) -> None:
    """Which one is the mask is not guessed: the line says that, and what there is."""
    import scipy.io

    for number in range(3):
        save(picture(number), tmp_path / f"photos/{number}.jpg")
        (tmp_path / "truth").mkdir(exist_ok=True)
        scipy.io.savemat(tmp_path / f"truth/{number}.mat", {"inst": mask(number), "cls": mask(number)})
    with pytest.raises(UserError, match=r"no masks .*truth/0\.mat holds .*which is the mask.*variable.*write a spec"):
        draft(Tree(tmp_path))
