"""One drawn scene through every label form: the same masks, pixel by pixel."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ingest.datasets import cityscapes as adapter
from ingest.datasets import folder
from ingest.errors import UserError
from ingest.forms import annotated, registry
from ingest.pixels.labels import normalize
from ingest.sources.trees import Tree
from tests.ingest.forms.label_exports import CLASSES, EXPORTS, HEIGHT, SCENES, WIDTH, truth, write_images


def spec_file(
    raw: Path, labels: str, splits: str = 'train: {images: "images/*.jpg"}', classes: object = CLASSES
) -> Path:
    """A spec beside the raw folder."""
    path = raw.with_suffix(".yaml")
    path.write_text(f"name: scene\nclasses: {classes}\nlabels: {labels}\nsplits: {{{splits}}}\n")
    return path


@pytest.mark.parametrize("export", EXPORTS)
def test_every_form_gives_the_same_masks(tmp_path: Path, export: str) -> None:
    raw = tmp_path / "raw"
    write_images(raw)
    spec = folder.load_spec(str(spec_file(raw, EXPORTS[export](raw))))
    pairs = folder.find(raw, spec).splits["train"]
    assert len(pairs) == len(SCENES)
    for pair in pairs:
        ids = pair.label.ids(HEIGHT, WIDTH)
        expected = truth(SCENES[pair.stem.split("_")[0]])
        assert ids.dtype == np.uint8
        np.testing.assert_array_equal(ids, expected, err_msg=pair.image.name)


@pytest.mark.parametrize("export", EXPORTS)
def test_every_file_is_recognized_as_its_own_form(tmp_path: Path, export: str) -> None:
    raw = tmp_path / "raw"
    write_images(raw)
    text = EXPORTS[export](raw)
    spec = folder.load_spec(str(spec_file(raw, text)))
    for source in annotated.sources(Tree(raw), spec.shapes, spec.shapes.files):
        head = source.read()[: registry.HEAD]
        like = [form.name for form in registry.all_forms().values() if form.looks_like(source.name, head)]
        if "empty" not in source.name:  # a file without an object may be anyone's
            assert like == [spec.shapes.form.name], source.name
        assert registry.recognize(source.name, head) is spec.shapes.form


def test_cityscapes_polygons_by_its_own_command(tmp_path: Path) -> None:
    """Where the label ids were never drawn: names to train ids, groups, the plate that is part of its car."""
    box = [[0, 0], [79, 0], [79, 59], [0, 59]]
    objects = [
        {"label": "road", "polygon": box},
        {"label": "cargroup", "polygon": [[10, 10], [40, 10], [40, 30], [10, 30]]},
        {"label": "license plate", "polygon": [[20, 20], [25, 20], [25, 22], [20, 22]]},
        {"label": "static", "polygon": [[50, 0], [79, 0], [79, 9], [50, 9]]},
        {"label": "polegroup", "polygon": [[60, 20], [64, 20], [64, 50], [60, 50]]},
        {"label": "sky", "polygon": box, "deleted": 1},
    ]
    images, polygons = tmp_path / "leftImg8bit/train/aachen", tmp_path / "gtFine/train/aachen"
    images.mkdir(parents=True)
    polygons.mkdir(parents=True)
    Image.new("RGB", (WIDTH, HEIGHT)).save(images / "aachen_000000_000019_leftImg8bit.png")
    held = {"imgHeight": HEIGHT, "imgWidth": WIDTH, "objects": objects}
    (polygons / "aachen_000000_000019_gtFine_polygons.json").write_text(json.dumps(held))
    (pair,) = adapter.find(tmp_path).splits["train"]
    expected = np.zeros((HEIGHT, WIDTH), np.uint8)
    expected[10:31, 10:41] = adapter.CLASSES.index("car")
    expected[:10, 50:] = 255
    expected[20:51, 60:65] = 255
    np.testing.assert_array_equal(pair.label.ids(HEIGHT, WIDTH), expected)


def test_a_split_of_images_alone(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    write_images(raw)
    splits = 'train: {images: "images/*.jpg"}, test: {images: "images/*.jpg", labels: null}'
    found = folder.find(raw, folder.load_spec(str(spec_file(raw, EXPORTS["coco"](raw), splits))))
    assert all(pair.label is not None for pair in found.splits["train"])
    assert all(pair.label is None for pair in found.splits["test"])


def test_color_masks_with_a_labelmap(tmp_path: Path) -> None:
    """As CVAT exports "Segmentation mask 1.1"."""
    raw = tmp_path / "raw"
    write_images(raw)
    (raw / "SegmentationClass").mkdir()
    colors = np.array([[0, 0, 0], [61, 61, 245], [51, 221, 255], [250, 50, 83]], np.uint8)
    lines = ["# label:color_rgb:parts:actions"]
    lines += [f"{name}:{','.join(map(str, color))}::" for name, color in zip(CLASSES, colors.tolist(), strict=True)]
    (raw / "labelmap.txt").write_text("\n".join(lines))
    for stem, scene in SCENES.items():
        Image.fromarray(colors[truth(scene)]).save(raw / f"SegmentationClass/{stem}.png")
    labels = '{form: labelmap, files: labelmap.txt, masks: "SegmentationClass/*.png"}'
    found = folder.find(raw, folder.load_spec(str(spec_file(raw, labels))))
    for pair in found.splits["train"]:
        stored = normalize(pair.label.read(), pair.label.name, found.labels, found.classes)
        np.testing.assert_array_equal(stored.ids, truth(SCENES[pair.stem]))
    with pytest.raises(UserError, match=r"labelmap\.txt has the class 'dog'.*add it to `classes`"):
        folder.find(raw, folder.load_spec(str(spec_file(raw, labels, classes=CLASSES[:3]))))
    (raw / "labelmap.txt").write_text("background:0,0,0::\ncar:300,0,0::\n")
    with pytest.raises(UserError, match=r"labelmap\.txt, line 2"):
        folder.find(raw, folder.load_spec(str(spec_file(raw, labels))))


def test_crowds_are_ignored_below_all_else(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    write_images(raw)
    labels = EXPORTS["coco"](raw)
    held = json.loads((raw / "instances.json").read_text())
    everywhere = {"size": [HEIGHT, WIDTH], "counts": [0, HEIGHT * WIDTH]}
    crowd = {"id": 99, "image_id": 100, "category_id": 18, "segmentation": everywhere, "iscrowd": 1}
    held["annotations"].append(crowd)
    (raw / "instances.json").write_text(json.dumps(held))
    pairs = folder.find(raw, folder.load_spec(str(spec_file(raw, labels)))).splits["train"]
    ids = next(pair for pair in pairs if pair.stem == "one").label.ids(HEIGHT, WIDTH)
    expected = truth(SCENES["one"])
    np.testing.assert_array_equal(ids, np.where(expected == 0, 255, expected))


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ("map: {dog: car}", {0, 1, 2}),
        ("map: {dog: ignore}", {0, 1, 2, 255}),
        ("ignore: [dog]", {0, 1, 2, 255}),
        ("omit: [dog]", {0, 1, 2}),
        ("others: omit", {0, 1, 2}),
        ("others: ignore", {0, 1, 2, 255}),
        ("omit: [dog], background: ignore", {1, 2, 255}),
        ("omit: [dog, tree], background: tree", {0, 1, 2}),
    ],
)
def test_what_becomes_of_categories(tmp_path: Path, more: str, expected: set[int]) -> None:
    raw = tmp_path / "raw"
    write_images(raw)
    labels = EXPORTS["supervisely"](raw)[:-1] + f", {more}}}"
    spec = spec_file(raw, labels, classes=["background", "car", "tree"])
    if "omit: [dog, tree]" in more:
        with pytest.raises(UserError, match="'tree' is a class or mapped, too"):
            folder.load_spec(str(spec))
        return
    pairs = folder.find(raw, folder.load_spec(str(spec))).splits["train"]
    assert set(np.unique([pair.label.ids(HEIGHT, WIDTH) for pair in pairs]).tolist()) == expected


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ("{form: cocoo, files: x}", "no label form 'cocoo'; did you mean 'coco'"),
        ("{files: x}", "must name a form"),
        ("{form: coco, fils: x}", "unknown key 'fils'; did you mean 'files'"),
        ("{form: coco}", "say where the COCO json is"),
        ("{form: labelmap, masks: x}", "say where the labelmap.txt is"),
        ("{form: coco, files: x, others: drop}", "omit or ignore"),
        ("{form: coco, files: x, map: {dog: cat}}", "no class 'cat'"),
        ("{form: coco, background: sea}", "no class 'sea'"),
        ("{form: labelme, attribute: kind}", "has none"),
        ("{form: coco, masks: x}", "not the colors of masks"),
    ],
)
def test_mistakes_of_the_labels_section(tmp_path: Path, labels: str, words: str) -> None:
    with pytest.raises(UserError, match=words) as error:
        folder.load_spec(str(spec_file(tmp_path / "raw", labels)))
    assert "raw.yaml" in str(error.value)


@pytest.mark.parametrize("key", ["ids: {0: car}", "colors: {car: [1, 2, 3]}", "ignore: [9]", "others: ignore"])
def test_keys_of_masks_beside_shapes_are_refused(tmp_path: Path, key: str) -> None:
    """They would do nothing, silently."""
    path = spec_file(tmp_path / "raw", "{form: coco, files: x.json}")
    path.write_text(path.read_text() + key + "\n")
    with pytest.raises(UserError, match=r"raw\.yaml: .*'(ids|colors|ignore|others)' "):
        folder.load_spec(str(path))


def test_the_same_bytes_for_any_number_of_workers(tmp_path: Path, ingest) -> None:
    raw = tmp_path / "raw"
    write_images(raw)
    spec = spec_file(raw, EXPORTS["coco"](raw))
    tars = []
    for workers in (1, 2):
        out = tmp_path / f"out{workers}"
        done = ingest("folder", raw, "--spec", spec, "--out", out, "--workers", workers)
        assert done.returncode == 0, done.stderr
        assert "smaller objects lie on larger ones" in done.stderr
        tars.append((out / "train-000000.tar").read_bytes())
    assert tars[0] == tars[1]


@pytest.mark.parametrize("export", ["cvat", "supervisely", "yolo", "coco"])
def test_declared_categories(tmp_path: Path, export: str) -> None:
    raw = tmp_path / "raw"
    write_images(raw)
    spec = folder.load_spec(str(spec_file(raw, EXPORTS[export](raw))))
    tree = Tree(raw)
    found = spec.shapes.form.categories(tree, annotated.sources(tree, spec.shapes, spec.shapes.files))
    assert set(found) - {"background"} == {"car", "tree", "dog"}
    assert found["car"] == {"cvat": (0x20, 1, 0x40), "supervisely": (0x20, 0, 0x40)}.get(export)
