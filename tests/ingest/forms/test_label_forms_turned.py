"""Pictures with an EXIF tag, and images that show nothing: shapes meet them as their annotators saw them."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from ingest.convert import Converted, Rules, convert
from ingest.datasets import folder
from ingest.shards import manifest
from tests.ingest.forms.label_exports import labelme, write_images
from tests.ingest.forms.test_label_forms import spec_file

_ORIENTATION = 0x0112


def turned_picture(path: Path, orientation: int) -> Image.Image:
    """Saves a photo that shows a white corner at the top left when it is upright; returns it upright."""
    pixels = np.full((40, 60, 3), 30, np.uint8)
    pixels[:20, :30] = 240
    upright = Image.fromarray(pixels)
    undo = {5: 5, 6: 8, 7: 7, 8: 6}.get(orientation, orientation)  # turning by 90 degrees is undone by the other way
    exif = Image.Exif()
    exif[_ORIENTATION] = undo
    stored = io.BytesIO()
    upright.save(stored, "PNG", exif=exif)
    lying = ImageOps.exif_transpose(Image.open(stored))
    exif[_ORIENTATION] = orientation
    path.parent.mkdir(exist_ok=True, parents=True)
    lying.save(path, quality=98, exif=exif)
    return upright


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["labelme", "yolo"])
def test_shapes_meet_the_picture_as_it_was_shown(tmp_path: Path, orientation: int, form: str) -> None:
    raw = tmp_path / "raw"
    upright = turned_picture(raw / "images/a.jpg", orientation)
    corner = [[0, 0], [29, 0], [29, 19], [0, 19]]
    if form == "labelme":
        shape = {"label": "light", "points": corner, "shape_type": "polygon"}
        held = {"shapes": [shape], "imagePath": "a.jpg", "imageHeight": upright.height, "imageWidth": upright.width}
        (raw / "images/a.json").write_text(json.dumps(held))
        labels = '{form: labelme, files: "images/*.json"}'
    else:
        (raw / "images/a.txt").write_text("0 " + " ".join(f"{x / 60:.6f} {y / 40:.6f}" for x, y in corner))
        labels = '{form: yolo, files: "images/*.txt", names: [light]}'
    spec = spec_file(raw, labels, classes=["background", "light"])
    found = folder.find(raw, folder.load_spec(str(spec)))
    done = convert(found.splits["train"][0], Rules(found.labels, tuple(found.classes)))
    assert isinstance(done, Converted) and done.label is not None
    image, ids = Image.open(io.BytesIO(done.image)), np.asarray(Image.open(io.BytesIO(done.label)))
    assert image.getexif().get(_ORIENTATION, 1) == 1
    light = np.asarray(image.convert("L")) > 128
    assert light.shape == ids.shape == (40, 60)
    np.testing.assert_array_equal(ids, light)


def test_images_that_show_nothing(tmp_path: Path, ingest) -> None:
    raw = tmp_path / "raw"
    write_images(raw)
    spec = spec_file(raw, labelme(raw))
    out = tmp_path / "out"
    assert ingest("folder", raw, "--spec", spec, "--out", out).returncode == 0
    assert manifest.load(out).splits["train"].samples == 3
    done = ingest("folder", raw, "--spec", spec, "--out", tmp_path / "less", "--drop-empty")
    assert done.returncode == 0, done.stderr
    facts = manifest.load(tmp_path / "less")
    assert facts.splits["train"].samples == 2 and "--drop-empty" in facts.command
    (left_out,) = facts.splits["train"].skipped
    assert left_out.file == "images/empty.jpg" and "nothing but background" in left_out.reason
