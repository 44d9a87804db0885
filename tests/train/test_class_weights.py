"""Each weighting by hand."""

from __future__ import annotations

import math

import pytest

from ingest.errors import UserError
from train.losses.class_weights import describe, resolve

PIXELS = [700, 200, 100]


def test_none():
    assert resolve("none", PIXELS) is None
    assert resolve("none", [0, 0]) is None


def test_frequency():
    weights = resolve("frequency", PIXELS)
    assert weights == pytest.approx([1 / (3 * 0.7), 1 / (3 * 0.2), 1 / (3 * 0.1)])
    assert sum(w * p for w, p in zip(weights, [0.7, 0.2, 0.1], strict=True)) == pytest.approx(1)


def test_median_frequency():
    assert resolve("median_frequency", PIXELS) == pytest.approx([0.2 / 0.7, 1.0, 2.0])


def test_enet():
    assert resolve("enet", PIXELS) == pytest.approx([1 / math.log(1.02 + p) for p in (0.7, 0.2, 0.1)])


@pytest.mark.parametrize("spec", ["frequency", "median_frequency", "enet"])
def test_absent_classes_weigh_nothing_and_change_nothing(spec):
    weights = resolve(spec, [*PIXELS, 0])
    assert weights[3] == 0 and weights[:3] == resolve(spec, PIXELS)


def test_list():
    assert resolve([1, 2, 0], PIXELS) == [1.0, 2.0, 0.0]


def test_describe_names_the_absent():
    line = describe([1.0, 0.25, 0.0], ["road", "tree", "train"], [5, 20, 0])
    assert line == "class weights: road 1, tree 0.25, train 0; without a pixel in the training split: train"


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("enett", "did you mean 'enet'"),
        ([1, 2], "has 2 weights, the dataset has 3 classes"),
        ([1, -2, 1], r"loss.class_weights\[1\] = -2"),
        ([1, float("inf"), 1], r"loss.class_weights\[1\] = inf"),
        ([0, 0, 0], "all 0"),
        ([], r"loss.class_weights = \[\]"),
    ],
)
def test_mistakes(spec, message):
    with pytest.raises(UserError, match=message):
        resolve(spec, PIXELS)


def test_unlabelled_split():
    with pytest.raises(UserError, match="no labeled pixel"):
        resolve("enet", [0, 0, 0])
