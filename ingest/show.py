"""Contact sheets: what is in the shards, to be looked at."""

from __future__ import annotations

import io
from itertools import islice
from pathlib import Path

import numpy as np
from PIL import Image

from ingest.errors import UserError
from ingest.shards import manifest, pictures
from ingest.shards.manifest import IGNORE, Manifest, Split
from ingest.shards.pictures import Array, Cell, Entry, Panel
from ingest.shards.tar import read_samples

_SIDE = 320  # longest side of a picture, pixels


def sheet(folder: Path, split: str, count: int) -> Array:
    """The split's first `count` samples (shuffled at ingest, so a fair draw): image, label over it, and a legend.

    uint8 [H, W, 3]. Raises UserError when the split is unknown.
    """
    facts = manifest.load(folder)
    chosen = facts.split(split)
    samples = [
        sample for shard in chosen.shards for sample in islice(read_samples(folder / f"{shard.name}.tar"), count)
    ][:count]
    cells = [_cell(key, files, facts, chosen.labeled) for key, files in samples]
    titles = ["image", "label over image"] if chosen.labeled else ["image"]
    return pictures.contact_sheet(cells, titles, _entries(facts, chosen), _SIDE, enlarge=False)


def _entries(facts: Manifest, split: Split) -> list[Entry]:
    """A color a class with its share of the split's labeled pixels."""
    if not split.labeled:
        return []
    classes = pictures.class_entries(facts.classes, facts.palette, split.class_pixels, shares=True, absent="never seen")
    ignored = split.ignored_pixels
    return [*classes, pictures.ignored_entry(ignored, ignored + sum(split.class_pixels))]


def _cell(key: str, files: dict[str, bytes], facts: Manifest, labeled: bool) -> Cell:
    image_ext = next(ext for ext in files if ext != "seg.png")
    image = _pixels(files[image_ext], image_ext)
    panels = [Panel(image)]
    if labeled:
        ids = np.asarray(Image.open(io.BytesIO(files["seg.png"])))
        if ids.shape != image.shape[:2]:
            raise UserError(f"{key}: image and label differ in size: run `python -m ingest verify`")
        blend = pictures.overlay(image, pictures.colorize(ids, facts.palette, IGNORE), 0.75)
        panels.append(Panel(blend))
    return Cell(panels, [key])


def _pixels(data: bytes, ext: str) -> Array:
    """As RGB, uint8 [H, W, 3]."""
    if ext != "npy":
        return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    return np.ascontiguousarray(pictures.rgb(np.load(io.BytesIO(data), allow_pickle=False)))
