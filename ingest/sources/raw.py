"""What a dataset's adapter hands to the writer: the facts of the task, and which files make which sample."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ingest.errors import UserError, nearest
from ingest.pixels.labels import Color, DrawnLabel, LabelMap
from ingest.pixels.rasters import Window
from ingest.pixels.raw import facts
from ingest.pixels.recipe import PixelRecipe
from ingest.pixels.tiff import Place
from ingest.shards.manifest import Skipped
from ingest.shards.wording import count
from ingest.sources.archives import Source
from ingest.sources.trees import Tree


@dataclass(frozen=True)
class Pair:
    """An image and its label as they lie in the raw dataset."""

    image: Source
    label: Source | DrawnLabel | None
    window: Window | None = None  # of a scene that was prepared in the scratch folder: y, x, height, width
    place: Place | None = None  # of the image or tile on the map

    @property
    def stem(self) -> str:
        """What the key is made of: the image's stem, with the offset of a tile."""
        stem = os.path.splitext(os.path.basename(self.image.name))[0]
        return stem if self.window is None else f"{stem}_y{self.window[0]}_x{self.window[1]}"

    @property
    def bytes(self) -> int:
        """About what the pair takes in a shard, from the files' sizes or the tile's pixels."""
        if self.window is not None:
            return 3 * self.window[2] * self.window[3]
        return sum(source.size + 1024 for source in (self.image, self.label) if source)


@dataclass(frozen=True)
class RawDataset:
    """A raw dataset, found and paired; nothing decoded yet."""

    name: str
    classes: list[str]
    palette: list[Color]
    labels: LabelMap
    splits: dict[str, list[Pair]]
    skipped: dict[str, list[Skipped]] = field(default_factory=dict)
    expected: dict[str, int] = field(default_factory=dict)  # official sample counts, where the splits have them
    options: dict[str, Any] = field(default_factory=dict)  # what was detected or chosen: labels, version, classes
    pixels: PixelRecipe = field(default_factory=PixelRecipe)  # not plain: scenes, to be read by `rasters`
    background: int | None = None  # train id of what is nothing in particular, where a class is that
    drop_empty: bool = False  # images of nothing but background and ignored pixels are left out
    notes: list[str] = field(default_factory=list)  # what was concluded from the data, to be said once


def choose_splits(wanted: Sequence[str], available: Sequence[str], default: Sequence[str] | None = None) -> list[str]:
    """The wanted splits, or the default ones. UserError on an unknown name lists the others."""
    for name in wanted:
        if name not in available:
            raise UserError(f"no split {name!r} here{nearest(name, available)}")
    return list(dict.fromkeys(wanted)) or list(available if default is None else default)


def pair_up(
    tree: Tree, images: Mapping[str, str], labels: Mapping[str, str] | None, where: str, skip_bad: bool
) -> tuple[list[Pair], list[Skipped]]:
    """Pairs files by their text (stem -> name). `labels` is None for a split of images alone.

    An image without label, and one whose file or label is gone or no regular file, is left out and listed under
    `skip_bad`, else a UserError.
    """
    pairs, skipped = [], []
    for stem, name in images.items():
        try:
            if labels is not None and stem not in labels:
                if skip_bad:
                    raise UserError(f"no label in {where}")
                raise UserError(
                    f"{name} has no label: none in {where} goes by {stem!r} "
                    f"({count(len(images), 'image')}, {count(len(labels), 'label')}): add the label, remove the image, "
                    "or leave such images out with --skip-bad"
                )
            pairs.append(Pair(tree.source(name), None if labels is None else tree.source(labels[stem])))
        except UserError as error:
            if not skip_bad:
                raise
            skipped.append(Skipped(name, str(error)))
    return pairs, skipped


def on_the_map(raw: RawDataset) -> bool:
    """Whether the first image is a scene that knows its place, or where it has no data."""
    first = next((pair.image for pairs in raw.splits.values() for pair in pairs), None)
    if first is None or not first.name.lower().endswith((".tif", ".tiff")):
        return False
    try:
        found = facts(first)
    except UserError:  # told when it is converted
        return False
    return found.place is not None or found.nodata is not None
