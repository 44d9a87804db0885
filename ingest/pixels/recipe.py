"""What ingest does to raw pixels: one recipe, kept in dataset.json, and the one function that applies it.

Prediction applies the same recipe to raw files, so that a net sees what it was trained on.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ingest.errors import UserError
from ingest.shards.wording import count as counted

_MOST_BANDS = 16
DEPTHS = "uint8, int8, uint16, int16, uint32, int32, float32 or float64"


@dataclass(frozen=True)
class PixelRecipe:
    """Which bands become channels, which raw range becomes 0..255, and what is no data.

    The empty recipe is for plain pictures: RGB as it is, gray repeated, alpha dropped, 16 bits by their high byte.
    """

    bands: tuple[int, ...] = ()  # 1-based, as GIS tools count; empty: the 3 of an RGB file
    ranges: tuple[tuple[float, float], ...] = ()  # raw values, a channel or one for all; empty: 8 bits as they are
    percentiles: tuple[float, float] | None = None  # what `ranges` were measured by, or are to be
    nodata: float | None = None  # the raw value of pixels without data; None: what a file itself says
    fill: tuple[int, ...] = ()  # per channel, 0..255: what pixels without data become (their label: 255); empty: 128

    @property
    def channels(self) -> int:
        return len(self.bands) or 3

    @property
    def plain(self) -> bool:
        """Whether pictures are taken as they are: nothing of this recipe was asked for."""
        return self == PixelRecipe()

    def as_dict(self) -> dict[str, Any]:
        """For dataset.json."""
        return dataclasses.asdict(self)

    @staticmethod
    def from_dict(raw: dict[str, Any]) -> PixelRecipe:
        """From dataset.json. ValueError or TypeError where it does not fit."""
        pair = raw.get("percentiles")
        return PixelRecipe(
            tuple(int(band) for band in raw.get("bands", ())),
            tuple((float(low), float(high)) for low, high in raw.get("ranges", ())),
            None if pair is None else (float(pair[0]), float(pair[1])),
            None if raw.get("nodata") is None else float(raw["nodata"]),
            tuple(int(value) for value in raw.get("fill", ())),
        )


def choose_bands(scene: NDArray[np.generic], name: str, recipe: PixelRecipe) -> NDArray[np.generic]:
    """[H, W] or [H, W, bands] -> the bands that become channels, [H, W, C]. UserError where the spec must say more."""
    scene = scene[..., None] if scene.ndim == 2 else scene
    count = scene.shape[2]
    if recipe.bands:
        if max(recipe.bands) > count:
            raise UserError(
                f"{name} has {counted(count, 'band')}, `bands` in the spec asks for band {max(recipe.bands)}: mend it"
            )
        if recipe.bands == tuple(range(1, count + 1)):
            return scene
        return scene[..., [band - 1 for band in recipe.bands]]
    if count == 1:
        return np.repeat(scene, 3, axis=2)
    if count != 3:
        raise UserError(f"{name} has {count} bands: choose with `bands: [1, 2, 3, ...]` in the spec")
    return scene


def apply(
    scene: NDArray[np.generic], name: str, recipe: PixelRecipe, nodata: float | None = None
) -> tuple[NDArray[np.uint8], NDArray[np.bool_] | None]:
    """Raw pixels [H, W] or [H, W, bands] -> (uint8 [H, W, C], where there is data [H, W], or None for everywhere).

    `nodata` is what the file itself says; the recipe's own goes first. A pixel is without data where all chosen bands
    hold that value, or where one is NaN. Raises UserError where the spec has to say more.
    """
    chosen = choose_bands(scene, name, recipe)
    valid = where_data(chosen, recipe.nodata if recipe.nodata is not None else nodata)
    out = scale(chosen, name, recipe)
    if valid is not None:
        out[~valid] = recipe.fill or 128
    return out, valid


def where_data(chosen: NDArray[np.generic], nodata: float | None) -> NDArray[np.bool_] | None:
    """Where a scene [H, W, C] has data, bool [H, W]; None: everywhere."""
    missing: NDArray[np.bool_] | None = None
    if nodata is not None and not np.isnan(nodata):
        missing = (chosen == nodata).all(2)
    if chosen.dtype.kind == "f":
        lacking = ~np.isfinite(chosen).all(2)
        missing = lacking if missing is None else missing | lacking
    return None if missing is None or not missing.any() else ~missing


def scale(chosen: NDArray[np.generic], name: str, recipe: PixelRecipe) -> NDArray[np.uint8]:
    """Chosen bands [H, W, C] of any depth -> uint8, by the recipe's ranges."""
    if not recipe.ranges:
        if chosen.dtype != np.uint8:
            raise UserError(
                f"{name} holds {chosen.dtype}: say what becomes 0..255, with `range: [low, high]` in the spec, or "
                "measured by `percentiles: [2, 98]`"
            )
        return np.array(chosen, np.uint8)
    if chosen.dtype.kind not in "uif":
        raise UserError(f"{name} holds {chosen.dtype}: a scene holds {DEPTHS}")
    out = np.empty(chosen.shape, np.uint8)
    for channel in range(chosen.shape[2]):
        low, high = recipe.ranges[channel if len(recipe.ranges) > 1 else 0]
        # float32 is exact for 16 bits and twice as fast; wider numbers lose what 8 bits do not show
        with np.errstate(invalid="ignore", over="ignore"):  # NaN and infinity are no data, filled by the caller
            scaled = (chosen[..., channel].astype(np.float32) - np.float32(low)) * np.float32(255 / (high - low))
        out[..., channel] = np.nan_to_num(np.clip(np.rint(scaled), 0, 255), nan=0.0)
    return out


def to_rgb(image: Image.Image, name: str) -> Image.Image:
    """A plain picture of any Pillow mode as 8-bit RGB: what the empty recipe does."""
    if image.mode.startswith("I"):  # 16-bit gray: Pillow's own conversion clips at 255
        wide = np.asarray(image)
        if wide.min() < 0 or wide.max() > 65535:
            raise UserError(f"{name} has values outside 16 bits: give `range: [low, high]` in the spec")
        return Image.fromarray((wide >> 8).astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        raise UserError(f"{name} holds floating-point values: give `range: [low, high]` in the spec")
    if image.mode == "P" and "transparency" in image.info:
        return image.convert("RGBA").convert("RGB")
    return image.convert("RGB")


def check(recipe: PixelRecipe, where: str) -> None:
    """UserError naming `where` (a spec's path) for what no scene can have."""
    if any(band < 1 for band in recipe.bands) or len(recipe.bands) > _MOST_BANDS:
        raise UserError(
            f"{where}: 'bands' must list 1 to {_MOST_BANDS} band numbers, 1 first, not {list(recipe.bands)}"
        )
    for low, high in recipe.ranges:
        if not (np.isfinite([low, high]).all() and low < high and np.isfinite(np.float32(high - low))):
            raise UserError(f"{where}: range [{low:g}, {high:g}]: both must be numbers, low below high")
    if len(recipe.ranges) not in (0, 1, recipe.channels):
        raise UserError(
            f"{where}: 'range' has {len(recipe.ranges)} pairs for {recipe.channels} bands: give one, or one a band"
        )
    if recipe.percentiles is not None:
        low, high = recipe.percentiles
        if not 0 <= low < high <= 100:
            raise UserError(f"{where}: percentiles [{low:g}, {high:g}]: both must lie in 0..100, low below high")
        if recipe.ranges:
            raise UserError(f"{where}: 'range' and 'percentiles' say the same thing twice: keep one")
