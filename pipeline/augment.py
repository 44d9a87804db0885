"""What the training crops go through, as a recipe states it."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from ingest.errors import UserError, brief
from pipeline.plan import Draws


@dataclass(frozen=True)
class Augment:
    """Random geometry and blur of a training crop. Each part is switched off by its neutral value."""

    crop: tuple[int, int] = (380, 380)
    """Height and width of the crop, pixels. Where the image is smaller, mean color and label 255 fill it."""
    base_size: int = 400
    """The image's longer side is scaled to base_size x U(scale), pixels. 0: scale from the image's own size."""
    scale: tuple[float, float] = (0.5, 2.0)
    """Range of the scale factor. Off: [1, 1]."""
    rotate: float = 10.0
    """Rotation about the center by U(-rotate, rotate), degrees. Off: 0."""
    flip: float = 0.5
    """Probability of a left-right flip. Off: 0."""
    blur: float = 1.0
    """Gaussian blur of the image with sigma U(0, blur), pixels, at most 50. Off: 0."""
    antialias: bool = True
    """Average the pixels of an image that is scaled to half or less before it is sampled (downsampling without
    aliasing, `geometry.downsample_factors`)."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not all(0 <= each < math.inf for each in (value if isinstance(value, tuple) else (value,))):
                raise UserError(f"augment.{field.name} = {brief(value)}: expected finite numbers, 0 or more")
        if min(self.crop) < 1 or max(self.crop) > 16384:
            raise UserError(f"augment.crop = {list(self.crop)}: expected height and width in 1..16384 pixels")
        if self.base_size > 65536:
            raise UserError(f"augment.base_size = {self.base_size}: expected at most 65536 pixels")
        if not 0 < self.scale[0] <= self.scale[1] <= 100:
            raise UserError(f"augment.scale = {list(self.scale)}: expected [low, high] with 0 < low <= high <= 100")
        if self.blur > 50:
            raise UserError(f"augment.blur = {self.blur}: the largest sigma, expected 0..50 pixels")
        if self.flip > 1:
            raise UserError(f"augment.flip = {self.flip}: a probability, expected 0..1")


def blur_sigmas(draws: Draws, augment: Augment) -> NDArray[np.float64]:
    """Standard deviations of the Gaussian blur, float64 [B], pixels."""
    return draws.blur * augment.blur


def blur_radius(sigma: float) -> int:
    """Half-width of the blur's window, pixels: 0 where the kernel would round to the identity in 8 bits.

    Two sigmas on each side leave out under 1% of the kernel's weight at sigma = 1 (it is renormalized), and cost half
    as much as three.
    """
    # At sigma 0.25 a neighbor weighs exp(-8) = 0.0003: less than a gray level.
    return 0 if sigma < 0.25 else math.ceil(2 * sigma)
