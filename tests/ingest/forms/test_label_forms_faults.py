"""What can be wrong with annotation files: one line that names the file, the object and the remedy."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from ingest.convert import Rules, convert
from ingest.datasets import folder
from ingest.errors import UserError
from ingest.pixels.bitmasks import from_coco, from_label_studio
from ingest.shards import manifest
from ingest.shards.manifest import Skipped
from tests.ingest.forms.label_exports import CLASSES, EXPORTS, HEIGHT, WIDTH, pack_brush, write_images
from tests.ingest.forms.test_label_forms import spec_file

# The files that an export writes, and which of them holds the image "one".
FILES = {
    "coco": "instances.json",
    "labelme": "images/one.json",
    "yolo": "labels/one.txt",
    "cvat": "annotations.xml",
    "supervisely": "ann/one.jpg.json",
    "label studio": "project-3.json",
    "via": "via.json",
    "cityscapes": "gt/one_gtFine_polygons.json",
}
PER_IMAGE = ("labelme", "yolo", "supervisely", "cityscapes")


@pytest.fixture
def exported(tmp_path: Path) -> Callable[[str], tuple[Path, Path]]:
    """(raw folder, spec) of the scenes in a form."""

    def export(form: str, **spec: Any) -> tuple[Path, Path]:
        raw = tmp_path / "raw"
        write_images(raw)
        return raw, spec_file(raw, EXPORTS[form](raw), **spec)

    return export


def ingest_all(raw: Path, spec: Path, skip_bad: bool = False) -> list[Skipped]:
    """Finds and converts every sample in this process; what was left out."""
    found = folder.find(raw, folder.load_spec(str(spec)), skip_bad=skip_bad)
    rules = Rules(found.labels, tuple(found.classes), skip_bad=skip_bad)
    done = [convert(pair, rules) for pair in found.splits["train"]]
    return [*found.skipped["train"], *(one for one in done if isinstance(one, Skipped))]


def refused(raw: Path, spec: Path, *words: str) -> str:
    with pytest.raises(UserError) as error:
        ingest_all(raw, spec)
    message = str(error.value)
    assert "\n" not in message
    for word in words:
        assert re.search(word, message), (word, message)
    return message


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert re.search(old, text), old
    path.write_text(re.sub(old, new, text, count=1))


@pytest.mark.parametrize("form", FILES)
def test_a_file_cut_short_is_named(exported, form: str) -> None:
    raw, spec = exported(form)
    path = raw / FILES[form]
    data = path.read_bytes().rstrip()
    path.write_bytes(data[: -len(data) // 3] if form != "yolo" else data.rsplit(b" ", 1)[0])
    refused(raw, spec, re.escape(FILES[form]), "line 3|broken (json|xml)", "export it again|mend or remove")
    if form in PER_IMAGE:
        (left_out,) = ingest_all(raw, spec, skip_bad=True)
        assert "images/one" in left_out.file and FILES[form] in left_out.reason


@pytest.mark.parametrize("form", FILES)
def test_an_image_that_is_not_there(exported, form: str) -> None:
    raw, spec = exported(form)
    next((raw / "images").glob("two*.jpg")).unlink()
    refused(raw, spec, "two", "there is no image", "--skip-bad")
    (left_out,) = ingest_all(raw, spec, skip_bad=True)
    assert "two" in left_out.file


@pytest.mark.parametrize("form", FILES)
def test_a_category_that_is_not_listed(exported, form: str) -> None:
    raw, spec = exported(form, classes=["background", "cars", "tree", "dog"])
    refused(raw, spec, "'car'", "add it to `classes`", "did you mean 'cars'", r"(annotation|shape|line|object|region) ")


@pytest.mark.parametrize("form", [form for form in FILES if form not in ("yolo", "via")])
def test_a_size_that_differs(exported, form: str) -> None:
    raw, spec = exported(form)
    path = next((raw / "images").glob("one*.jpg"))
    Image.new("RGB", (WIDTH // 2, HEIGHT // 2)).save(path)
    refused(raw, spec, "one", f"of an image of {WIDTH}x{HEIGHT}", f"is {WIDTH // 2}x{HEIGHT // 2}", "pair the image")


@pytest.mark.parametrize("form", FILES)
def test_a_shape_far_outside(exported, form: str) -> None:
    raw, spec = exported(form)
    path = raw / FILES[form].replace("one", "two")
    triangle = {
        "coco": (r"\[\[10, 4, 25, 5, 21, 22\]\]", "[[910, 4, 925, 5, 921, 22]]"),
        "yolo": (r"0 0.125000 ", "0 1.900000 "),
        "cvat": (r"10.00,4.00", "910.00,4.00"),
        "label studio": (r"\[\[12.5, ", "[[1912.5, "),
        "via": (r"\[10, 25, 21\]", "[910, 925, 921]"),
    }
    old, new = triangle.get(form, (r"\[\s*10,\s*4\s*\]", "[910, 4]"))
    edit(path, old, new)
    refused(raw, spec, "two", "'car'", "outside of the image of 80x60", "resized")


@pytest.mark.parametrize("form", [form for form in FILES if form != "yolo"])
def test_a_shape_of_two_points(exported, form: str) -> None:
    raw, spec = exported(form)
    path = raw / FILES[form].replace("one", "two")
    cut = {
        "coco": (r"\[\[10, 4, 25, 5, 21, 22\]\]", "[[10, 4, 25, 5]]"),
        "cvat": (r"10.00,4.00;25.00,5.00;21.00,22.00", "10.00,4.00;25.00,5.00"),
        "label studio": (r", \[26.25, [\d.]+\]\]", "]"),
        "via": (r'\[10, 25, 21\], "all_points_y": \[4, 5, 22\]', '[10, 25], "all_points_y": [4, 5]'),
    }
    old, new = cut.get(form, (r"\[\s*10,\s*4\s*\],\s*", ""))
    edit(path, old, new)
    refused(raw, spec, "two", "'car'", "an outline of 2 points", "mend")


@pytest.mark.parametrize("value", ['"abc"', "null", "[[1]]", '[["x", 2], [3, 4], [5, 6]]', "NaN", "{}"])
def test_points_that_are_none(exported, value: str) -> None:
    raw, spec = exported("labelme")
    held = json.loads((raw / "images/two.json").read_text())
    held["shapes"][0]["points"] = "POINTS"
    (raw / "images/two.json").write_text(json.dumps(held).replace('"POINTS"', value))
    refused(raw, spec, r"images/two\.json", "shape 1")


@pytest.mark.parametrize("text", ["[]", "{}", "3", '{"shapes": 3}', '{"shapes": [3]}', "[" * 100_000, "\xff"])
@pytest.mark.parametrize("form", [form for form in FILES if form not in ("yolo", "cvat")])
def test_json_of_another_shape(exported, form: str, text: str) -> None:
    raw, spec = exported(form)
    (raw / FILES[form]).write_bytes(text.encode("latin-1"))
    if (form, text) in (("label studio", "[]"), ("via", "{}")):
        refused(raw, spec, "has no label")  # no tasks, no images: whole
    else:
        refused(raw, spec, re.escape(FILES[form]))


def test_a_file_that_another_tool_wrote(exported) -> None:
    raw, spec = exported("via")
    (raw / "via.json").write_text(json.dumps({"images": [], "annotations": [], "categories": []}))
    refused(raw, spec, "via.json", "VIA json", "export it again")


def test_xml_entities_are_refused(exported) -> None:
    raw, spec = exported("cvat")
    path = raw / "annotations.xml"
    bomb = '<!DOCTYPE a [<!ENTITY x "' + "ha" * 10 + '"><!ENTITY y "&x;&x;">]>'
    edit(path, "<annotations>", bomb + "<annotations>")
    refused(raw, spec, "annotations.xml", "entities")


@pytest.mark.parametrize("name", ["/etc/passwd.jpg", "../../secret.jpg", "http://host/../secret.jpg"])
def test_names_never_lead_out_of_the_folder(exported, name: str, tmp_path: Path) -> None:
    raw, spec = exported("coco")
    Image.new("RGB", (WIDTH, HEIGHT)).save(tmp_path / "secret.jpg")
    edit(raw / "instances.json", '"one.jpg"', json.dumps(name))
    refused(raw, spec, "there is no image", re.escape(name))


def test_references_that_lead_nowhere(exported) -> None:
    raw, spec = exported("coco")
    held = json.loads((raw / "instances.json").read_text())
    for key, word in (("image_id", "`images` lacks"), ("category_id", "`categories` lacks")):
        broken = json.loads(json.dumps(held))
        broken["annotations"][1][key] = 999
        (raw / "instances.json").write_text(json.dumps(broken))
        refused(raw, spec, r"instances\.json", "annotation 2", "999", word)


def test_two_annotations_of_one_image(exported) -> None:
    raw, spec = exported("labelme")
    (raw / "images/one.JPG.json").write_text((raw / "images/one.json").read_text())
    (raw / "more").mkdir()
    (raw / "images/one.JPG.json").rename(raw / "more/one.json")
    edit(spec, "images/\\*.json", "*/*.json")
    refused(raw, spec, r"images/one\.json", r"more/one\.json", "keep one")


def test_two_images_of_one_name(exported) -> None:
    raw, spec = exported("coco")
    (raw / "images/b").mkdir()
    (raw / "images/b/one.jpg").write_bytes((raw / "images/one.jpg").read_bytes())
    edit(spec, "images/\\*.jpg", "images/**/*.jpg")
    refused(raw, spec, r"one\.jpg", "may be")


def test_names_with_accents_in_either_unicode_form(exported) -> None:
    raw, spec = exported("coco")
    composed, apart = "caf\u00e9.jpg", "cafe\u0301.jpg"
    (raw / "images/one.jpg").rename(raw / "images" / composed)
    edit(raw / "instances.json", r"one\.jpg", apart)
    found = folder.find(raw, folder.load_spec(str(spec)))
    assert f"images/{composed}" in {pair.image.name for pairs in found.splits.values() for pair in pairs}
    # both forms side by side are two files: which one is meant is not guessed
    (raw / "images" / apart).write_bytes((raw / "images" / composed).read_bytes())
    refused(raw, spec, "caf", "may be")


def test_boxes_have_no_outline(exported) -> None:
    raw, spec = exported("yolo")
    (raw / "labels/two.txt").write_text("0 0.5 0.5 0.2 0.2\n")
    refused(raw, spec, r"labels/two\.txt", "line 1", "'car'", "is a box")


def test_what_is_left_out_is_listed_in_the_dataset(exported, ingest, tmp_path: Path) -> None:
    raw, spec = exported("labelme")
    (raw / "images/one.json").write_text("{")
    out = tmp_path / "out"
    refusal = ingest("folder", raw, "--spec", spec, "--out", out)
    assert refusal.returncode == 2 and "images/one.json" in refusal.stderr and "Traceback" not in refusal.stderr
    done = ingest("folder", raw, "--spec", spec, "--out", out, "--skip-bad", "--workers", 2)
    assert done.returncode == 0, done.stderr
    assert "later shapes lie on earlier ones" in done.stderr and "outside of all shapes are the class" in done.stderr
    facts = manifest.load(out)
    assert facts.splits["train"].samples == 2
    (left_out,) = facts.splits["train"].skipped
    assert left_out.file == "images/one.jpg" and "broken json" in left_out.reason


def test_run_lengths_as_pycocotools_reads_them() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        height, width = rng.integers(1, 40, 2).tolist()
        mask = (rng.random((height, width)) < rng.random()).astype(np.uint8)
        if rng.random() < 0.5:
            mask = np.asfortranarray(np.kron(mask, np.ones((3, 5), np.uint8)))
        counts = coco_mask.encode(np.asfortranarray(mask))["counts"].decode()
        np.testing.assert_array_equal(from_coco(counts, *mask.shape), mask)


def test_damaged_run_lengths_are_refused() -> None:
    """pycocotools itself ends the process on some of these."""
    rng = np.random.default_rng(1)
    for number in range(2000):
        low, high = ((48, 112), (1, 128))[number % 2]
        text = bytes(rng.integers(low, high, rng.integers(1, 30)).astype(np.uint8)).decode()
        with pytest.raises(ValueError):
            from_coco(text, 1000, 1001)
    for counts in ([700], [300, 400], [-5, 605], [100], [[1, 2]], ["a"], [10**30]):
        with pytest.raises((ValueError, TypeError, OverflowError)):
            from_coco(counts, 20, 30)


def test_damaged_brushes_are_refused() -> None:
    packed = pack_brush(np.eye(20, 30, dtype=np.uint8))
    np.testing.assert_array_equal(from_label_studio(packed, 20, 30), np.eye(20, 30, dtype=bool))
    rng = np.random.default_rng(2)
    kept = 0
    for _ in range(300):
        broken = list(packed)
        broken[rng.integers(len(broken))] ^= int(rng.integers(1, 256))
        with contextlib.suppress(ValueError, OverflowError):
            kept += from_label_studio(broken[: rng.integers(1, len(broken) + 1)], 20, 30).shape == (20, 30)
    assert kept < 150
    with pytest.raises(ValueError, match="RGBA"):
        from_label_studio([255] * 100, 20, 30)


def test_classes_of_the_scene() -> None:
    assert CLASSES[0] == "background"  # what the tests above rest on


@pytest.mark.parametrize(
    ("wrong", "right"),
    [("cityscapes", "labelme"), ("supervisely", "labelme"), ("coco", "via"), ("via", "coco"), ("coco", "label studio")],
)
def test_a_file_of_another_form_is_named_as_that(tmp_path: Path, wrong: str, right: str) -> None:
    raw = tmp_path / "raw"
    write_images(raw)
    mine = EXPORTS[right](raw)
    name = re.search(r"form: (\w+)", mine)
    assert name is not None
    spec = spec_file(raw, mine.replace(f"form: {name[1]}", f"form: {wrong}"))
    with pytest.raises(UserError, match=rf"\.json is .* json, not .*: write `form: {name[1]}`"):
        ingest_all(raw, spec)


def test_shapes_that_show_one_class_are_refused_with_what_to_mend(exported, quick, tmp_path: Path) -> None:
    raw, spec = exported("coco")
    text = spec.read_text()
    classes = re.search(r"classes: (.*)", text)
    assert classes is not None
    spec.write_text(text.replace("{form: coco,", "{form: coco, background: car, omit: [tree, dog],"))
    spec.write_text(re.sub(r"classes: .*", "classes: [car, boat]", spec.read_text()))
    done = quick("folder", raw, "--spec", spec, "--out", tmp_path / "out")
    assert done.returncode == 2 and "`omit`" in done.stderr and "the masks hold" not in done.stderr, done.stderr
