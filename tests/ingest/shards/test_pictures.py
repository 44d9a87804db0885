"""Pictures: the right colors in the right places, and legends that say what is meant."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ingest.errors import UserError
from ingest.shards import pictures
from ingest.shards.pictures import Cell, Panel
from ingest.shards.wording import count, share

PALETTE = [[10, 20, 30], [200, 100, 0]]


def test_colors_follow_the_palette_and_ignored_pixels_have_one_color() -> None:
    colors = pictures.colorize(np.array([[0, 1, 255]], np.uint8), PALETTE)
    assert colors.tolist() == [[PALETTE[0], PALETTE[1], list(pictures.IGNORED)]]


def test_errors_show_wrong_pixels_and_leave_ignored_ones_out() -> None:
    label, prediction = np.array([[0, 1, 255]], np.uint8), np.array([[0, 0, 1]], np.uint8)
    right, wrong, ignored = pictures.errors(label, prediction)[0].tolist()
    assert wrong[0] > 2 * wrong[1] and right[0] == right[1] and tuple(ignored) == pictures.IGNORED
    assert (tuple(right), tuple(wrong)) == (pictures.RIGHT, pictures.WRONG) and max(right) < 80


def test_overlay_lies_between_image_and_colors_and_only_where_asked() -> None:
    image, colors = np.zeros((2, 2, 3), np.uint8), np.full((2, 2, 3), 200, np.uint8)
    mixed = pictures.overlay(image, colors)
    assert (mixed > 50).all() and (mixed < 200).all()
    where = np.array([[True, False], [False, False]])
    assert (pictures.overlay(image, colors, where=where)[~where] == 0).all()


def test_contact_sheet_holds_every_picture_of_any_size_and_a_legend() -> None:
    shapes = ((40, 60), (90, 30))
    cells = [Cell([Panel(np.full((h, w, 3), 90 + 50 * i, np.uint8)) for i in range(2)], ["name"]) for h, w in shapes]
    entries = [*pictures.class_entries(["sky", "road"], PALETTE, [1, 1]), pictures.ignored_entry()]
    sheet = pictures.contact_sheet(cells, ["a", "b"], entries, side=80)
    assert sheet.shape[0] > 80 and sheet.dtype == np.uint8
    colors = {tuple(color) for color in sheet.reshape(-1, 3).tolist()}
    assert {(90,) * 3, (140,) * 3, *map(tuple, PALETTE), pictures.IGNORED} <= colors


def test_flat_panels_hold_no_mixed_color() -> None:
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 200
    for flat in (True, False):
        sheet = pictures.contact_sheet([Cell([Panel(stripes, flat)], [])], [], [], side=32)
        assert ((sheet[10:40, 10:40, 0] == 100).any()) is not flat


def test_long_legends_list_only_what_occurs() -> None:
    names, palette = [f"class {i}" for i in range(150)], [[i, i, i] for i in range(150)]
    pixels = [0] * 150
    pixels[3], pixels[77] = 99_999, 1
    entries = pictures.class_entries(names, palette, pixels, shares=True, absent="never seen")
    assert [entry.text for entry in entries] == ["class 3 100.0%", "class 77 <0.1%", "148 never seen"]
    short = pictures.class_entries(names[:3], palette[:3], [1, 0, 3], shares=True)
    assert [entry.text for entry in short] == ["class 0 25.0%", "class 1 -", "class 2 75.0%"]


def test_a_legend_leaves_the_picture_as_it_is() -> None:
    picture = np.random.default_rng(0).integers(0, 255, (20, 30, 3), dtype=np.uint8)
    whole = pictures.with_legend(picture, pictures.class_entries(["a long name of a class"], [[1, 2, 3]], [5]))
    assert (whole[:20, :30] == picture).all() and whole.shape[0] > 20
    assert (whole[20:] == (1, 2, 3)).all(-1).any()


def test_words() -> None:
    assert [share(*pair) for pair in ((0, 5), (1, 100_000), (1, 8), (5, 5), (0, 0))] == [
        "-",
        "<0.1%",
        "12.5%",
        "100.0%",
        "-",
    ]
    assert [count(1, "image"), count(1234, "image"), count(2, "class", "classes")] == [
        "1 image",
        "1,234 images",
        "2 classes",
    ]


def test_names_of_no_picture_are_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "a.png").mkdir()
    for name, message in (("x.xyz", "ends in .png"), ("x", "ends in .png"), ("a.png", "is a folder")):
        with pytest.raises(UserError, match=message):
            pictures.save(np.zeros((2, 2, 3), np.uint8), tmp_path / name)
    pictures.save(np.zeros((2, 2, 3), np.uint8), tmp_path / "b.jpg")
    assert Image.open(tmp_path / "b.jpg").size == (2, 2) and len(list(tmp_path.iterdir())) == 2
