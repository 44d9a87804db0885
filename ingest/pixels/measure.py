"""What a recipe leaves to be measured, once, over the training scenes: ranges by percentiles, the color of no data."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from ingest.errors import UserError
from ingest.pixels import raw, recipe, tiff
from ingest.pixels.recipe import PixelRecipe
from ingest.sources.archives import Source

_SCENES = 32  # that are measured, from all over
_PIXELS = 250_000  # of each, about, from all over
_Read = TypeVar("_Read")
_STRIPS = 16  # of each, at most: a large scene is not read as a whole for this


def measured(pixels: PixelRecipe, scenes: Sequence[Source], skip_bad: bool = False) -> PixelRecipe:
    """The recipe with ranges for its `percentiles`, and with the mean color as `fill` where scenes lack data.

    Raises UserError on broken scenes, which `skip_bad` leaves out, and where there is no data at all.
    """
    step = max(1.0, len(scenes) / _SCENES)
    chosen = [scenes[int(number * step)] for number in range(min(_SCENES, len(scenes)))]
    found = {scene: one for scene in chosen if (one := _sound(raw.facts, scene, skip_bad)) is not None}
    lacking = any(one.nodata is not None or one.dtype.startswith("float") for one in found.values())
    if pixels.percentiles is None and (pixels.fill or not (lacking or pixels.nodata is not None)):
        return pixels
    samples = [_sound(lambda scene: _sample(scene, found[scene], pixels), scene, skip_bad) for scene in found]
    parts = [part for part in samples if part is not None and len(part)]
    sample = np.concatenate(parts) if parts else None
    if sample is None:
        raise UserError(f"{chosen[0].name} and the other training scenes hold no data: is `nodata` right?")
    if pixels.percentiles is not None:
        pixels = dataclasses.replace(pixels, ranges=_ranges(sample, pixels.percentiles))
    eight = recipe.scale(sample[:, None], chosen[0].name, pixels)[:, 0]
    return dataclasses.replace(pixels, fill=tuple(round(float(value)) for value in eight.mean(0)))


def _sound(read: Callable[[Source], _Read], scene: Source, skip_bad: bool) -> _Read | None:
    """What is read of a scene; None where it is broken and such ones are left out."""
    try:
        return read(scene)
    except UserError:
        if not skip_bad:
            raise
        return None


def _sample(scene: Source, found: tiff.Facts, pixels: PixelRecipe) -> NDArray[np.generic]:
    """Pixels with data from all over a scene, [N, C], as they are in the file."""
    step = max(1, int((found.height * found.width / _PIXELS) ** 0.5))
    parts = []
    for strip in raw.strips(scene, found, pixels, _STRIPS):
        part = recipe.choose_bands(strip[::step, ::step], scene.name, pixels)
        valid = recipe.where_data(part, pixels.nodata if pixels.nodata is not None else found.nodata)
        parts.append(part.reshape(-1, part.shape[2]) if valid is None else part[valid])
    return np.concatenate(parts)


def _ranges(sample: NDArray[np.generic], percentiles: tuple[float, float]) -> tuple[tuple[float, float], ...]:
    """Per channel [low, high]; a channel without contrast gets a range around its value."""
    low, high = np.percentile(sample.astype(np.float64), percentiles, axis=0)
    return tuple(
        (float(one), float(other)) if other > one else (float(one) - 0.5, float(one) + 0.5)
        for one, other in zip(low, high, strict=True)
    )
