"""One drawn scene through every label form: the same masks, pixel by pixel."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ingest.datasets import annotated, folder, forms
from ingest.sources.trees import Tree
from tests.ingest.label_exports import CLASSES, EXPORTS, HEIGHT, SCENES, WIDTH, truth, write_images


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
        head = source.read()[: forms.HEAD]
        like = [form.name for form in forms.all_forms().values() if form.looks_like(source.name, head)]
        if "empty" not in source.name:  # a file without an object may be anyone's
            assert like == [spec.shapes.form.name], source.name
        assert forms.recognize(source.name, head) is spec.shapes.form


@pytest.mark.parametrize("export", ["cvat", "supervisely", "yolo", "coco"])
def test_declared_categories(tmp_path: Path, export: str) -> None:
    raw = tmp_path / "raw"
    write_images(raw)
    spec = folder.load_spec(str(spec_file(raw, EXPORTS[export](raw))))
    tree = Tree(raw)
    found = spec.shapes.form.categories(tree, annotated.sources(tree, spec.shapes, spec.shapes.files))
    assert set(found) - {"background"} == {"car", "tree", "dog"}
    assert found["car"] == {"cvat": (0x20, 1, 0x40), "supervisely": (0x20, 0, 0x40)}.get(export)
