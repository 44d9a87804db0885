"""What the training crops go through, as a recipe states it."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ingest.errors import UserError, brief
from pipeline.plan import Draws


@dataclass(frozen=True)
class Augment:
    """Random geometry, blur and colors of a training crop. Each part is switched off by its neutral value."""

    crop: tuple[int, int] = (380, 380)
    """Height and width of the crop, pixels. Where the image is smaller, mean color and label 255 fill it."""
    base_size: int = 400
    """The image's longer side (see `resize`) is scaled to base_size x U(scale), pixels. 0: from its own size."""
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
    resize: Literal["longer", "shorter", "ratio"] = "longer"
    """What base_size is of the image: its longer side; its shorter side; or (ratio) its shorter side, as far as the
    longer one stays within `longest` (mmsegmentation's RandomResize with scale [longest, base_size])."""
    longest: int = 0
    """With resize=ratio: the longer side is scaled to at most longest x U(scale), pixels."""
    vertical_flip: float = 0.0
    """Probability of a top-bottom flip, for images without an up, such as aerial ones. Off: 0."""
    quarter_turns: float = 0.0
    """Probability of a turn by 90, 180 or 270 degrees, each as likely, before everything else. Off: 0."""
    brightness: float = 0.0
    """Gray levels are raised by 255 x U(-brightness, brightness), 0..1; mmsegmentation: 0.125. Off: 0."""
    contrast: float = 0.0
    """Then multiplied by U(1 - contrast, 1 + contrast), 0..0.95; mmsegmentation: 0.5. Off: 0."""
    saturation: float = 0.0
    """Colors' distance from gray is multiplied by U(1 - saturation, 1 + saturation), 0..1; mmsegmentation: 0.5.
    Off: 0."""
    hue: float = 0.0
    """Colors are turned about gray by U(-hue, hue), degrees, 0..180; mmsegmentation: 36. Off: 0."""
    color_chance: float = 0.5
    """Probability of each of the four changes of color above."""
    gray: float = 0.0
    """Probability that an image is made gray. Off: 0."""
    erase: float = 0.0
    """Probability that a random rectangle of the crop is filled with the mean color (random erasing); labels stay, so
    that the net learns to use what is around it. Off: 0."""
    erase_area: tuple[float, float] = (0.02, 0.2)
    """Range of the erased rectangle's share of the crop; its aspect is between 0.3 and 3.3."""
    cat_max_ratio: float = 1.0
    """The crop's place is drawn again, up to ten times, where one class has at least this share of its labeled pixels,
    going by the grid that ingest recorded; mmsegmentation: 0.75. Off: 1."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, str):
                continue  # one of its choices: the type says so
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
        for key in ("flip", "vertical_flip", "quarter_turns", "color_chance", "gray", "erase"):
            if getattr(self, key) > 1:
                raise UserError(f"augment.{key} = {getattr(self, key)}: a probability, expected 0..1")
        # A contrast of 1 would make images black, which cannot be undone for the padding.
        for key, most in (("brightness", 1), ("contrast", 0.95), ("saturation", 1), ("hue", 180)):
            if getattr(self, key) > most:
                raise UserError(f"augment.{key} = {getattr(self, key)}: expected 0..{most}")
        if not 0 < self.cat_max_ratio <= 1:
            raise UserError(f"augment.cat_max_ratio = {self.cat_max_ratio}: a share, expected more than 0, at most 1")
        low, high = self.erase_area
        if not 0 < low <= high <= 1:
            raise UserError(f"augment.erase_area = [{low}, {high}]: expected [low, high] with 0 < low <= high <= 1")
        if self.resize == "ratio" and not (self.longest and self.base_size):
            raise UserError(
                "augment.resize = ratio needs augment.longest and augment.base_size, such as 2048 and 512 for images "
                "whose shorter side becomes 512 while the longer one stays within 2048"
            )
        if self.longest > 65536:
            raise UserError(f"augment.longest = {self.longest}: expected at most 65536 pixels")

    @property
    def colors(self) -> list[str]:
        """Keys that are on and change colors, for which an image must be RGB."""
        return [key for key in ("brightness", "contrast", "saturation", "hue", "gray") if getattr(self, key)]

    def stated(self) -> dict[str, Any]:
        """All keys as plain values; those that came after the first seven only where they are not at their default.

        What names a stream is made of these, so that streams of before keep their names.
        """
        first = [field.name for field in fields(self)][:7]
        return {
            field.name: value
            for field in fields(self)
            if (value := getattr(self, field.name)) != field.default or field.name in first
        }


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
