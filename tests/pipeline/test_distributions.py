"""Angle, scale, flip, blur and crop position follow what the recipe says: over samples, and for one sample over epochs.

Seeds are fixed and the limits wide (p > 1e-4), so that a failure means a change.
"""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest
from scipy import stats

from pipeline import geometry, plan
from pipeline.augment import Augment, blur_sigmas

COUNT = 4000
AUGMENT = Augment(crop=(64, 96), base_size=200, scale=(0.75, 1.75), rotate=15, flip=0.3, blur=0.8)
SIZE = (150, 200)


def joined(draws: list[plan.Draws]) -> plan.Draws:
    names = [field.name for field in fields(plan.Draws)]
    return plan.Draws(*(np.concatenate([getattr(one, name) for one in draws]) for name in names))


def over_samples(seed: int) -> plan.Draws:
    return plan.draw(seed, 0, np.arange(COUNT))


def over_epochs(seed: int) -> plan.Draws:
    one = [plan.draw(seed, epoch, np.array([17])) for epoch in range(COUNT)]
    return joined(one)


def over_seeds(seed: int) -> plan.Draws:
    one = [plan.draw(seed + number, 3, np.array([17])) for number in range(COUNT)]
    return joined(one)


@pytest.fixture(scope="module", params=[over_samples, over_epochs, over_seeds], ids=lambda source: source.__name__)
def draws(request: pytest.FixtureRequest) -> plan.Draws:
    return request.param(21)


def taken_apart(draws: plan.Draws, augment: Augment = AUGMENT) -> dict[str, np.ndarray]:
    """The geometry as the matrices have it, not as the plan meant it. Angles in degrees, centers in scaled pixels."""
    matrices = geometry.matrices(draws, np.tile(SIZE, (len(draws.flip), 1)), augment)
    forward = np.linalg.inv(matrices[:, :, :2])
    flipped = np.linalg.det(forward) < 0
    upright = forward.copy()
    upright[flipped, 0] *= -1  # undo the flip, which comes last
    # Columns: where a step right and a step down in the source go to in the crop.
    angle = np.degrees(np.arctan2(upright[:, 1, 0], upright[:, 0, 0]))
    return {
        "flipped": flipped,
        "angle": angle,
        "scale": np.sqrt(np.abs(np.linalg.det(forward))),
        "right_angle": np.abs((upright[:, :, 0] * upright[:, :, 1]).sum(axis=1)),
    }


def test_scale_is_uniform_in_its_range(draws: plan.Draws) -> None:
    scale = taken_apart(draws)["scale"]
    # whole pixels: 150 to 350, so up to half a pixel of 150 off
    assert stats.kstest(scale, stats.uniform(0.75, 1.0).cdf).pvalue > 1e-4
    assert 0.745 < scale.min() < 0.76 and 1.74 < scale.max() < 1.755


def test_angle_is_uniform_in_its_range(draws: plan.Draws) -> None:
    found = taken_apart(draws)
    assert stats.kstest(found["angle"], stats.uniform(-15, 30).cdf).pvalue > 1e-4
    assert abs(found["angle"]).max() < 15.1
    assert found["right_angle"].max() < 0.01, "a turned image is not sheared"


def test_flips_are_as_frequent_as_asked(draws: plan.Draws) -> None:
    flipped = taken_apart(draws)["flipped"].sum()
    assert stats.binomtest(int(flipped), COUNT, 0.3).pvalue > 1e-4


def test_blur_is_uniform_in_its_range(draws: plan.Draws) -> None:
    assert stats.kstest(blur_sigmas(draws, AUGMENT), stats.uniform(0, 0.8).cdf).pvalue > 1e-4


def test_crops_lie_anywhere(draws: plan.Draws) -> None:
    # At a fixed scale: rooms of 150 - 64 and 200 - 96 pixels, so 87 x 105 places, each end included.
    fixed = replace(AUGMENT, scale=(1, 1))
    offsets = geometry.crop_offsets(draws, np.tile(SIZE, (COUNT, 1)), fixed)
    for axis, places in ((0, 87), (1, 105)):
        counts = np.bincount(offsets[:, axis], minlength=places)
        assert len(counts) == places and stats.chisquare(counts).pvalue > 1e-4
    # Both at once, in a grid of 8 x 8 cells: the two axes are independent.
    cells, _, _ = np.histogram2d(draws.top, draws.left, bins=8, range=[[0, 1], [0, 1]])
    assert stats.chisquare(cells.ravel()).pvalue > 1e-4


def test_no_two_numbers_depend_on_each_other(draws: plan.Draws) -> None:
    numbers = [draws.scale, draws.angle, draws.top, draws.left, draws.flip, draws.blur]
    for i in range(6):
        for j in range(i):
            cells, _, _ = np.histogram2d(numbers[i], numbers[j], bins=6, range=[[0, 1], [0, 1]])
            assert stats.chisquare(cells.ravel()).pvalue > 1e-5  # 15 pairs, 3 ways
        # nor on the number before it: neighboring samples, epochs and seeds
        assert stats.spearmanr(numbers[i][1:], numbers[i][:-1]).pvalue > 1e-5


@pytest.mark.parametrize(
    "off", [{"scale": (1.0, 1.0)}, {"rotate": 0.0}, {"flip": 0.0}, {"flip": 1.0}, {"scale": (1.0, 1.0), "rotate": 0.0}]
)
def test_what_is_switched_off_is_off_and_the_rest_stays(off: dict) -> None:
    draws = over_samples(4)
    full, part = taken_apart(draws), taken_apart(draws, replace(AUGMENT, **off))
    # Scaled sizes are whole pixels, so the aspect, and with it the angle, hangs a little on the scale.
    for name, key, neutral, tolerance in (("scale", "scale", 1.0, 1e-9), ("rotate", "angle", 0.0, 0.3)):
        if name in off:
            np.testing.assert_allclose(part[key], neutral, atol=1e-9)
        else:
            np.testing.assert_allclose(part[key], full[key], atol=tolerance)
    if "flip" in off:
        assert (part["flipped"] == bool(off["flip"])).all()
    else:
        np.testing.assert_array_equal(part["flipped"], full["flipped"])
