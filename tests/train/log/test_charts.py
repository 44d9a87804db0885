"""The confusion matrix as a picture: where the colors are, and that it fits any number of classes."""

from __future__ import annotations

import numpy as np
import pytest

from train.log import charts


def cells(picture: np.ndarray, count: int, cell: int) -> np.ndarray:
    """The color near each cell's upper left corner, away from its number: int [K, K, 3]."""
    top, left = (side - count * cell - 10 for side in picture.shape[:2])
    at = np.arange(count) * cell + 3
    return picture[top + at][:, left + at].astype(int)


def test_rows_are_true_classes_and_shares_are_of_rows() -> None:
    matrix = np.array([[90, 10, 0], [0, 1, 99], [0, 0, 0]])
    names = ["a long name that widens the margins", "b", "c"]
    found = cells(charts.confusion_matrix(matrix, names), 3, 30)
    paper = found[0, 2]
    assert found[0, 0, 2] > found[0, 0, 0] + 80  # the diagonal is blue
    assert found[1, 2, 0] > found[1, 2, 2] + 80  # confusions are red
    assert abs(found[1, 1] - paper).sum() < abs(found[0, 0] - paper).sum()  # 1% is pale
    assert abs(found[0, 1] - paper).sum() > 30 and abs(found[1, 0] - paper).sum() == 0


@pytest.mark.parametrize("count", [1, 2, 19, 30, 31, 60, 171, 182])
def test_any_number_of_classes_fits(count: int) -> None:
    matrix = np.eye(count, dtype=np.int64) * 7
    picture = charts.confusion_matrix(matrix, [f"class {i}" for i in range(count)])
    assert picture.dtype == np.uint8 and picture.shape[2] == 3 and max(picture.shape) < 2500
    cell = 30 if count <= 30 else 16 if count <= 60 else 11
    if picture.shape[1] - count * cell > 20 and count > 19:  # wide enough that the caption does not widen it
        found = cells(picture, count, cell)
        blue = found[..., 2] - found[..., 0] > 80
        assert np.array_equal(blue, np.eye(count, dtype=bool))


def test_a_class_that_is_not_there_has_no_color() -> None:
    picture = charts.confusion_matrix(np.zeros((2, 2), dtype=np.int64), ["a", "b"])
    assert (picture.max(axis=2).astype(int) - picture.min(axis=2)).max() < 10
