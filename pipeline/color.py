"""Brightness, contrast, saturation, hue and gray as ONE affine map of RGB a sample; and the rectangle that is erased.

A pixel becomes `gain * C @ (rgb + shift)`, in gray levels of 0..255, rounded and clipped once at the end. C turns the
two color axes of YIQ (the NTSC's luma and chroma) by the hue and stretches them by the saturation; gray levels stay
themselves, to within one (the matrices have three digits). It is the map of DALI's `color_twist`, so that both devices
agree. mmsegmentation's PhotoMetricDistortion has the same four changes with the same ranges and chances, but saturation
and hue in HSV, and rounds after each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.augment import Augment
from pipeline.plan import Draws

_TO_YIQ = np.array([[0.299, 0.587, 0.114], [0.596, -0.274, -0.321], [0.211, -0.523, 0.311]])
_FROM_YIQ = np.linalg.inv(_TO_YIQ)
ASPECT = 0.3  # of an erased rectangle: height / width is between this and 1 / this (Zhong et al., random erasing)


@dataclass(frozen=True)
class Colors:
    """How the colors of B samples change, float64 [B] each."""

    shift: NDArray[np.float64]
    """Added to all channels, whole gray levels."""
    gain: NDArray[np.float64]
    saturation: NDArray[np.float64]
    hue: NDArray[np.float64]
    """Degrees."""
    maps: NDArray[np.float32]
    """All of it as one affine map of RGB, [B, 3, 4]: columns for R, G, B and 1."""
    padding: NDArray[np.uint8]
    """[B, 3]: the color that the change turns into the fill color, as far as 8 bits hold it. Padding is filled with it,
    and so has the fill color in the end."""


def colors(draws: Draws, augment: Augment, fill: Sequence[int]) -> Colors | None:
    """None where the recipe changes no colors. fill: the color of padding, uint8 RGB."""
    if not augment.colors:
        return None
    chance = augment.color_chance
    shift = np.rint(255 * _within(draws.brightness, chance, augment.brightness))
    gain = 1 + _within(draws.contrast, chance, augment.contrast)
    saturation = 1 + _within(draws.saturation, chance, augment.saturation)
    saturation = np.where(draws.gray < augment.gray, 0.0, saturation)
    hue = _within(draws.hue, chance, augment.hue)
    chroma = _chroma(saturation, hue)
    # A shift of all channels is gray, which `chroma` leaves alone.
    offset = np.repeat((gain * shift)[:, None, None], 3, axis=1)
    maps = np.concatenate([gain[:, None, None] * chroma, offset], axis=2).astype(np.float32)
    padding = _padding(np.asarray(fill, dtype=np.float64), saturation == 0, gain, chroma) - shift[:, None]
    before = np.clip(np.rint(padding), 0, 255).astype(np.uint8)
    return Colors(shift, gain, saturation, hue, maps, before)


def rectangles(draws: Draws, augment: Augment) -> NDArray[np.int64] | None:
    """What is erased of each crop, int64 [B, 4]: top, left, height, width, pixels; 0 high and wide where nothing is.

    None where the recipe erases nothing.
    """
    if not augment.erase:
        return None
    crop_height, crop_width = augment.crop
    low, high = augment.erase_area
    area = (low + (high - low) * draws.erase_area) * crop_height * crop_width
    aspect = ASPECT ** (2 * draws.erase_aspect - 1)  # as often upright as lying
    height = np.clip(np.rint(np.sqrt(area * aspect)), 1, crop_height)
    width = np.clip(np.rint(np.sqrt(area / aspect)), 1, crop_width)
    top = np.floor(draws.erase_top * (crop_height - height + 1))
    left = np.floor(draws.erase_left * (crop_width - width + 1))
    found = np.stack([top, left, height, width], axis=1).astype(np.int64)
    found[draws.erase >= augment.erase] = 0
    return found


def _within(draw: NDArray[np.float64], chance: float, limit: float) -> NDArray[np.float64]:
    """Uniform in [-limit, limit) where draw < chance, else 0: one number decides both."""
    if not chance:
        return np.zeros(len(draw))
    return np.where(draw < chance, limit * (2 * draw / chance - 1), 0.0)


def _chroma(saturation: NDArray[np.float64], hue: NDArray[np.float64]) -> NDArray[np.float64]:
    """C of each sample, float64 [B, 3, 3]. hue: degrees."""
    radians = np.deg2rad(hue)
    cos, sin = saturation * np.cos(radians), saturation * np.sin(radians)
    turn = np.zeros((len(radians), 3, 3))
    turn[:, 0, 0] = 1
    turn[:, 1, 1], turn[:, 1, 2], turn[:, 2, 1], turn[:, 2, 2] = cos, sin, -sin, cos
    return _FROM_YIQ @ turn @ _TO_YIQ


def _padding(
    fill: NDArray[np.float64], gray: NDArray[np.bool_], gain: NDArray[np.float64], chroma: NDArray[np.float64]
) -> NDArray[np.float64]:
    """What gain * C turns into the fill color, float64 [B, 3]; of gray samples, into the gray of its brightness: an
    image that has lost its colors cannot get them back."""
    luma = (_TO_YIQ[0] @ fill) * np.ones(3)
    wanted = np.where(gray[:, None], luma, fill) / gain[:, None]
    invertible = np.where(gray[:, None, None], np.eye(3), chroma)
    return np.linalg.solve(invertible, wanted[:, :, None])[:, :, 0].astype(np.float64)
