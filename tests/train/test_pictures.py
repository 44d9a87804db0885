"""Pictures: the right colours in the right places."""

from __future__ import annotations

import numpy as np

from train import pictures

PALETTE = [[10, 20, 30], [200, 100, 0]]


def test_colours_follow_the_palette_and_ignored_pixels_are_void() -> None:
    colours = pictures.colorize(np.array([[0, 1, 255]], np.uint8), PALETTE)
    assert colours.tolist() == [[PALETTE[0], PALETTE[1], list(pictures.VOID)]]


def test_errors_show_wrong_pixels_and_leave_ignored_ones_out() -> None:
    label, prediction = np.array([[0, 1, 255]], np.uint8), np.array([[0, 0, 1]], np.uint8)
    right, wrong, ignored = pictures.errors(label, prediction)[0].tolist()
    assert wrong[0] > 2 * wrong[1] and right[0] == right[1] and tuple(ignored) == pictures.VOID


def test_overlay_lies_between_image_and_colours() -> None:
    image, colours = np.zeros((2, 2, 3), np.uint8), np.full((2, 2, 3), 200, np.uint8)
    mixed = pictures.overlay(image, colours)
    assert (mixed > 50).all() and (mixed < 200).all()


def test_contact_sheet_holds_every_picture_of_any_size_and_a_legend() -> None:
    rows = [[np.full((h, w, 3), 90 + 50 * i, np.uint8) for i in range(2)] for h, w in ((40, 60), (90, 30))]
    sheet = pictures.contact_sheet(rows, ["a", "b"], ["sky", "road"], PALETTE, height=80)
    assert sheet.shape[0] > 2 * 80 and sheet.dtype == np.uint8
    colours = {tuple(colour) for colour in sheet.reshape(-1, 3).tolist()}
    assert {(90,) * 3, (140,) * 3, *map(tuple, PALETTE), pictures.VOID} <= colours
