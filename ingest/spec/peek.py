"""What a sample of a dataset's files says before anything is converted: mistakes that would train nothing, silently."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

import numpy as np

from ingest.errors import UserError
from ingest.pixels import labels, rasters, raw
from ingest.pixels.decode import is_tiff
from ingest.pixels.labels import LabelMap
from ingest.pixels.masks import read_mask
from ingest.shards.manifest import IGNORE
from ingest.sources.archives import Source
from ingest.sources.raw import Pair, RawDataset

_MASKS = 64  # that are looked at, to learn what masks hold
_IMAGES = 16  # that are looked at, to learn how bright 16-bit ones are
_DARK = 16384  # a largest value below this leaves 16-bit images at a quarter of their brightness, or less
_LARGE = 256 << 20  # bytes: too much to be looked at in passing
_Item = TypeVar("_Item")


def spread(items: Sequence[_Item], count: int) -> list[_Item]:
    """At most `count` items from all over a list, the first among them."""
    step = max(1.0, len(items) / count)
    return [items[int(number * step)] for number in range(min(count, len(items)))]


def pairs_of(dataset: RawDataset) -> list[Pair]:
    """All labeled pairs, split after split."""
    return [pair for pairs in dataset.splits.values() for pair in pairs if pair.label is not None]


def values(pairs: Sequence[Pair]) -> set[int] | None:
    """The values that a sample of the masks holds; None where masks are no index images. Broken ones are left out."""
    seen: set[int] = set()
    for pair in spread(pairs, _MASKS):
        if not isinstance(pair.label, Source):
            return None
        try:
            mask = read_mask(pair.label.read(), pair.label.name, colored=None)
        except UserError:
            continue
        if mask.ndim != 2:
            return None
        seen |= set(np.flatnonzero(labels.count_values(mask)).tolist())
    return seen


def binary(dataset: RawDataset) -> tuple[LabelMap, str] | None:
    """Masks of 0 and 255 alone, for two classes: their label map, and what is to be said of that.

    255 is ignored everywhere else, so that the commonest of all masks would train nothing.
    """
    if len(dataset.classes) != 2 or values(pairs_of(dataset)) != {0, IGNORE}:
        return None
    first, second = dataset.classes
    told = (
        f"the masks hold 0 and 255 alone: taken as the two classes, 0 is {first!r} and 255 is {second!r} "
        f"(to say otherwise: `ids: {{0: {second}, 255: {first}}}` or `ignore: [255]` in the spec)"
    )
    return LabelMap({0: 0, IGNORE: 1}, {}), told


def refuse_one_class(dataset: RawDataset, skip_bad: bool = False) -> None:
    """UserError where a labeled dataset has one class, or where no label shows a second one.

    skip_bad: pass over broken labels; else, where the others show one class, the first broken one is what is at fault.
    """
    pairs = pairs_of(dataset)
    if not pairs:
        return
    if len(dataset.classes) < 2:
        only = dataset.classes[0]
        below, above = ("background", only) if only != "background" else (only, "object")
        raise UserError(
            f"{dataset.name} has one class, {only!r}: a net that must not choose learns nothing. Name what is not "
            f"{only} as well, as in `classes: [{below}, {above}]` with `ids: {{0: {below}, 255: {above}}}`"
        )
    shown: set[int] = set()
    broken: list[UserError] = []
    for pair in _all_over(pairs):
        try:
            shown |= _shown(pair, dataset)
        except UserError as error:
            broken.append(error)
        if len(shown - {IGNORE}) > 1:
            return
    if broken and not skip_bad:
        raise broken[0]
    if not shown:  # all broken
        return
    what = f"the class {dataset.classes[min(shown)]!r} alone" if shown - {IGNORE} else "no class at all"
    ignored = ", all else is ignored" if IGNORE in shown else ""
    held = values(pairs)
    holds = f"; the masks hold {', '.join(map(str, sorted(held)[:8]))}" if held else ""
    names = dataset.classes
    remedy = f"Say which value is which class, as in `ids: {{0: {names[0]}, 255: {names[1]}}}`, or give the right masks"
    if not isinstance(pairs[0].label, Source):  # drawn from shapes
        remedy = "Annotate more of them, or mend `labels` in the spec (its files, `map`, `ignore`, `omit`, `others`)"
    raise UserError(
        f"all {len(pairs)} labels of {dataset.name} show {what}{ignored}{holds}: nothing can be learned from that. "
        f"{remedy}"
    )


def _all_over(pairs: Sequence[Pair]) -> Iterator[Pair]:
    """Every pair, such that the first few come from all over: a video's first frames are alike."""
    step = max(1, len(pairs) // 8)
    for start in range(step):
        yield from pairs[start::step]


def _shown(pair: Pair, dataset: RawDataset) -> set[int]:
    """Train ids that a label shows. UserError where it is broken."""
    shown: set[int] = set()
    if isinstance(pair.label, Source):
        for strip in rasters.mask_strips(pair.label, dataset.labels):
            counts = labels.map_values(strip, pair.label.name, dataset.labels, dataset.classes)[2]
            shown |= set(np.flatnonzero(counts).tolist())
        return shown
    assert pair.label is not None
    for ids in rasters.drawn_strips(pair.label, pair.image):
        shown |= set(np.unique(ids).tolist())
        if len(shown - {IGNORE}) > 1:
            break
    return shown


def dark_images(dataset: RawDataset) -> str | None:
    """What is to be said where 16-bit images use so little of their range that their high byte is nearly black."""
    if not dataset.pixels.plain:
        return None
    pairs = [pair for mine in dataset.splits.values() for pair in mine]
    largest, looked_at = -1, 0
    for pair in spread(pairs, _IMAGES):
        if pair.image.size > _LARGE:
            continue
        try:
            data = pair.image.read()
            if not (is_tiff(data) or raw.is_deep_png(data)):
                continue
            pixels = raw.raw_pixels(data, pair.image.name)
        except UserError:
            continue
        if pixels.dtype == np.uint16:
            largest, looked_at = max(largest, int(pixels.max())), looked_at + 1
    if not looked_at or largest >= _DARK:
        return None
    proposed = (1 << largest.bit_length()) - 1
    return (
        f"images of 16 bits whose largest value is {largest:,} ({looked_at} looked at): stored by their high byte they "
        f"are nearly black, 0..{largest >> 8} of 255; give `range: [0, {proposed}]` in the spec"
    )
