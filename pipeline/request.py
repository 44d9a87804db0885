"""What is asked of a device: some samples, and where and how to sample them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ingest.errors import UserError
from ingest.shards.reader import ShardSet
from pipeline.color import Colors

# Why a file whose sum differs is not used.
CHANGED = "its bytes are not those that were ingested"


@dataclass(frozen=True)
class Request:
    """One batch to be made: whole images, or crops where `matrices` and the others are given."""

    samples: NDArray[np.int64]
    """Sample numbers, [B]."""
    matrices: NDArray[np.float64] | None = None
    """Crop-to-source matrices [B, 2, 3], see `geometry.matrices`."""
    sigmas: NDArray[np.float64] | None = None
    """Blur sigmas [B], pixels."""
    downsample: NDArray[np.int64] | None = None
    """By what factor each image is downsampled before it is sampled [B]: 1, 2, 4 or 8, see
    `geometry.downsample_factors`."""
    colors: Colors | None = None
    """How colors change; None: not at all."""
    erased: NDArray[np.int64] | None = None
    """Rectangles to be filled with the mean color [B, 4], see `color.rectangles`; None: none."""


def keys_of(shards: ShardSet, request: Request) -> list[str]:
    """The samples' keys."""
    return [shards.keys[sample] for sample in request.samples]


def broken(shards: ShardSet, sample: int, kind: str, reason: object) -> UserError:
    """The error for a file that does not decode. kind: "image" or "label"."""
    return UserError(
        f"the {kind} of sample {shards.keys[sample]!r} in {shards.shard_of(sample)} is broken ({reason}): see "
        f"`python -m ingest verify {shards.place_of(sample)}` and ingest the dataset again, or train on "
        f"without it (data.on_bad_sample=skip)"
    )


def mean_color(shards: ShardSet) -> list[int]:
    """The dataset's mean color, uint8 per channel: what a crop shows outside its image."""
    return [round(255 * value) for value in shards.manifest.mean]
