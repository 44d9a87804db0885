"""Contact sheets: what is in the shards, to be looked at."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ingest.errors import UserError
from ingest.pixels.decode import decode_image
from ingest.shards import pictures
from ingest.shards.manifest import IGNORE, Manifest, Split
from ingest.shards.pictures import Array, Cell, Entry, Panel
from ingest.shards.reader import ShardSet

_SIDE = 320  # longest side of a picture, pixels


def sheet(folder: Path, split: str, count: int) -> Array:
    """The split's first `count` samples (shuffled at ingest, so a fair draw): image, label over it, and a legend.

    uint8 [H, W, 3]. Raises UserError when the split is unknown or one of the samples is damaged.
    """
    shards = ShardSet(folder, split)
    cells = [_cell(shards, sample) for sample in range(min(count, len(shards)))]
    titles = ["image", "label over image"] if shards.labeled else ["image"]
    entries = _entries(shards.manifest, shards.manifest.split(split))
    return pictures.contact_sheet(cells, titles, entries, _SIDE, enlarge=False)


def _entries(facts: Manifest, split: Split) -> list[Entry]:
    """A color a class with its share of the split's labeled pixels."""
    if not split.labeled:
        return []
    classes = pictures.class_entries(facts.classes, facts.palette, split.class_pixels, shares=True, absent="never seen")
    ignored = split.ignored_pixels
    return [*classes, pictures.ignored_entry(ignored, ignored + sum(split.class_pixels))]


def _cell(shards: ShardSet, sample: int) -> Cell:
    key = shards.keys[sample]
    data, label = shards.image(sample), shards.label(sample) if shards.labeled else None
    if kind := shards.damaged(sample, data, label):
        raise UserError(
            f"the {kind} of {key} in {shards.shard_of(sample)} is not as it was ingested: see `python -m ingest verify "
            f"{shards.folder}`"
        )
    image = _pixels(data, key)
    panels = [Panel(image)]
    if label is not None:
        ids = np.asarray(decode_image(label.tobytes(), f"{key}.seg.png"))
        if ids.shape != image.shape[:2]:
            raise UserError(f"{key}: image and label differ in size: run `python -m ingest verify`")
        colors = pictures.colorize(ids, shards.manifest.palette, IGNORE)
        panels.append(Panel(pictures.overlay(image, colors, 0.75)))
    return Cell(panels, [key])


def _pixels(data: Array, key: str) -> Array:
    """As RGB, uint8 [H, W, 3], of a file uint8 [bytes] or pixels [H, W, C]."""
    if data.ndim == 1:
        return np.asarray(decode_image(data.tobytes(), key).convert("RGB"))
    return np.ascontiguousarray(pictures.rgb(data))
