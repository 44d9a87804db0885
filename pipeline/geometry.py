"""Scale, rotation, crop and flip as ONE 2x3 matrix, so that the crop is sampled once from the decoded image.

A matrix maps a pixel of the crop (x right, y down) to the place in the source image where it is sampled:
`source = matrix @ [x, y, 1]`. Two conventions of where a pixel is: here and in OpenCV its center has whole coordinates;
in DALI its corner has (`to_dali`).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.augment import Augment
from pipeline.plan import NUMBERS, Draws

_AT_ONCE = 2**16  # samples, to bound the memory that a split of millions takes


def scaled_sizes(draws: Draws, sizes_hw: NDArray[np.int64], augment: Augment) -> NDArray[np.int64]:
    """Height and width of each image after turning and scaling, int64 [B, 2], its aspect kept."""
    sizes_hw = turned_sizes(draws, sizes_hw, augment)
    longer, shorter = sizes_hw.max(axis=1), sizes_hw.min(axis=1)
    low, high = augment.scale
    factor = low + (high - low) * draws.scale
    side = longer if augment.resize == "longer" else shorter
    ratio = (augment.base_size or side) * factor / side
    if augment.resize == "ratio":
        ratio = np.minimum(ratio, augment.longest * factor / longer)
    scaled = np.floor(sizes_hw * ratio[:, None] + 0.5).astype(np.int64)
    return np.maximum(scaled, 1)


def quarter_turns(draws: Draws, augment: Augment) -> NDArray[np.int64]:
    """By how many right angles each image is turned counterclockwise, int64 [B], 0..3."""
    if not augment.quarter_turns:
        return np.zeros(len(draws.turn), dtype=np.int64)
    within = draws.turn / augment.quarter_turns  # uniform in [0, 1) where it is turned
    return np.where(within < 1, 1 + np.floor(3 * within), 0).astype(np.int64)


def turned_sizes(draws: Draws, sizes_hw: NDArray[np.int64], augment: Augment) -> NDArray[np.int64]:
    """Heights and widths after the quarter turns, int64 [B, 2]."""
    odd = quarter_turns(draws, augment) % 2 == 1
    return np.where(odd[:, None], sizes_hw[:, ::-1], sizes_hw)


def crop_offsets(draws: Draws, scaled_hw: NDArray[np.int64], augment: Augment) -> NDArray[np.int64]:
    """Top and left of the crop in the scaled image, int64 [B, 2]; negative where the image is smaller than the crop.

    Whole pixels: without rotation and scaling the crop is then a plain copy. One rule serves both cases: the crop lies
    anywhere inside the image, or the image anywhere inside the crop.
    """
    room = scaled_hw - np.asarray(augment.crop)
    offsets = np.stack([draws.top, draws.left], axis=1) * (room + np.sign(room))
    return np.trunc(offsets).astype(np.int64)


def matrices(draws: Draws, sizes_hw: NDArray[np.int64], augment: Augment) -> NDArray[np.float64]:
    """Crop-to-source matrices, float64 [B, 2, 3], pixel centers at whole coordinates.

    Args:
        draws: uniform numbers of B samples.
        sizes_hw: int64 [B, 2], the decoded images' heights and widths, pixels.
    """
    scaled = scaled_sizes(draws, sizes_hw, augment)
    top, left = crop_offsets(draws, scaled, augment).T
    flips, upside_down = draws.flip < augment.flip, draws.vertical_flip < augment.vertical_flip
    radians = np.deg2rad((2 * draws.angle - 1) * augment.rotate)
    zero, one = np.zeros(len(radians)), np.ones(len(radians))

    crop_height, crop_width = augment.crop
    flip = _affine(
        [np.where(flips, -one, one), zero, np.where(flips, crop_width - 1, zero)],
        [zero, np.where(upside_down, -one, one), np.where(upside_down, crop_height - 1, zero)],
    )
    crop = _affine([one, zero, left], [zero, one, top])
    # Undo the rotation about the scaled image's center.
    cos, sin = np.cos(radians), np.sin(radians)
    cy, cx = ((scaled - 1) / 2).T
    rotate = _affine([cos, -sin, cx - cos * cx + sin * cy], [sin, cos, cy - sin * cx - cos * cy])
    # Undo the scaling: corners map to corners, so centers shift by half a pixel.
    ratio_y, ratio_x = (turned_sizes(draws, sizes_hw, augment) / scaled).T
    scale = _affine([ratio_x, zero, (ratio_x - 1) / 2], [zero, ratio_y, (ratio_y - 1) / 2])
    composed = scale @ rotate @ crop @ flip
    if augment.quarter_turns:
        composed = _turns(quarter_turns(draws, augment), sizes_hw) @ composed
    return composed[:, :2]


def _turns(turns: NDArray[np.int64], sizes_hw: NDArray[np.int64]) -> NDArray[np.float64]:
    """Matrices from the turned image to the source, float64 [B, 3, 3]."""
    # The four directions in which the turned image's x axis may point in the source.
    cos, sin = np.array([1.0, 0, -1, 0])[turns], np.array([0.0, 1, 0, -1])[turns]
    height, width = (sizes_hw - 1.0).T
    return _affine([cos, -sin, np.where(cos - sin < 0, width, 0)], [sin, cos, np.where(sin + cos < 0, height, 0)])


def downsample_factors(draws: Draws, sizes_hw: NDArray[np.int64], augment: Augment) -> NDArray[np.int64]:
    """By what factor each image is downsampled before it is sampled, int64 [B]: 1, 2, 4 or 8.

    Bilinear sampling looks at four pixels. Where a pixel of the crop covers more of them, the others would be skipped
    (aliasing), so the image is first downsampled by the power of two that leaves less than two. Labels are not: they
    are sampled, not averaged.
    """
    if not augment.antialias:
        return np.ones(len(sizes_hw), dtype=np.int64)
    ratio = sizes_hw.max(axis=1) / scaled_sizes(draws, sizes_hw, augment).max(axis=1)
    return _power_of_two(ratio)


def most_downsample_steps(sizes_hw: NDArray[np.int64], augment: Augment) -> int:
    """The largest power of two, 0 to 3, that `downsample_factors` can ask for."""
    most = 1
    for first in range(0, len(sizes_hw), _AT_ONCE):
        part = sizes_hw[first : first + _AT_ONCE]
        # The smallest scale asks for most. By the function itself, so that both round alike.
        most = max(most, int(downsample_factors(Draws.of(np.zeros((len(part), NUMBERS))), part, augment).max()))
    return int(np.log2(most))


def after_downsampling(matrix_23: NDArray[np.float64], factor: int) -> NDArray[np.float64]:
    """A crop-to-source matrix -> the one into the source downsampled by means of factor x factor pixels, [2, 3]."""
    # Downsampled pixel i is the mean of source pixels factor*i .. factor*i + factor-1.
    reduced = matrix_23 / factor
    reduced[:, 2] -= (factor - 1) / (2 * factor)
    return reduced


def to_dali(matrices_B23: NDArray[np.float64]) -> NDArray[np.float32]:
    """The same maps for DALI's `warp_affine`, float32 [B, 2, 3], where pixel centers lie at halves."""
    shifted = matrices_B23.copy()
    shifted[:, :, 2] += 0.5 - matrices_B23[:, :, :2].sum(axis=2) / 2
    return shifted.astype(np.float32)


def _power_of_two(ratio: NDArray[np.float64]) -> NDArray[np.int64]:
    """The largest of 1, 2, 4, 8 that is no larger than the ratio; 1 for ratios below."""
    return 2 ** np.clip(np.floor(np.log2(np.maximum(ratio, 1))), 0, 3).astype(np.int64)


def _affine(row_x: list[NDArray[np.float64]], row_y: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Rows of float64 [B] entries -> float64 [B, 3, 3]."""
    result = np.zeros((len(row_x[0]), 3, 3))
    result[:, 0] = np.stack(row_x, axis=1)
    result[:, 1] = np.stack(row_y, axis=1)
    result[:, 2, 2] = 1
    return result
