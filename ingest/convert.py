"""The work on one sample: read, decode once, check, convert where needed. Runs in worker processes."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Generator, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ingest import tiling
from ingest.errors import UserError
from ingest.pixels import images, labels, rasters
from ingest.pixels.decode import image_size
from ingest.pixels.images import Format
from ingest.pixels.labels import DrawnLabel, LabelMap, StoredLabel
from ingest.processes import Work, in_order
from ingest.shards import areas, png, rows
from ingest.shards.manifest import ImageExt, Skipped
from ingest.sources.archives import Source
from ingest.sources.raw import Pair


@dataclass(frozen=True)
class Rules:
    """How samples are converted: the same for all samples of a dataset."""

    labels: LabelMap
    classes: tuple[str, ...]
    images: Format = Format()  # noqa: RUF009  frozen
    skip_bad: bool = False  # broken samples are left out and listed, instead of ending the ingest
    folder: str = ""  # where scenes were prepared, for samples that are tiles of them
    empty: frozenset[int] | None = None  # a label of these train ids alone is left out with its image


@dataclass(frozen=True)
class Converted:
    """A sample ready for the tar, and what was counted while it was decoded."""

    image: bytes
    image_ext: ImageExt
    label: bytes | None
    height: int
    width: int
    channel_sum: list[int]
    channel_square_sum: list[int]
    classes: list[tuple[int, int, str]] | None = None  # what the label shows (`ingest.shards.areas`)
    row_crc32: list[int] | None = None  # of an npy's blocks of rows (`ingest.shards.rows`)
    as_source: bool = False  # the image's bytes are the source file's
    unmatched: int = 0  # label pixels whose color was too far from every class's: ignored, and said


def convert(pair: Pair, rules: Rules) -> Converted | Skipped:
    """Decodes and checks one pair. Raises UserError naming the file, or returns why it is to be left out."""
    try:
        return _convert(pair, rules)
    except UserError as error:
        if rules.skip_bad:
            return Skipped(pair.image.name, str(error))
        raise


def _is_empty(pixels: NDArray[np.int64], rules: Rules) -> bool:
    """Whether a label shows nothing; `pixels` per train id."""
    return rules.empty is not None and set(np.flatnonzero(pixels).tolist()) <= rules.empty


def _left_out(pair: Pair) -> Skipped:
    return Skipped(pair.image.name, "shows nothing but background and ignored pixels (--drop-empty)")


def _convert_tile(pair: Pair, rules: Rules) -> Converted | Skipped:
    """A tile of a scene that was decoded, checked and mapped before."""
    assert pair.window is not None
    scene = tiling.prepared(Path(rules.folder), pair.image)
    pixels = rasters.cut(scene, pair.window)
    label, shown = None, None
    if pair.label is not None:
        ids = rasters.cut(tiling.prepared(Path(rules.folder), pair.label), pair.window)
        ids = rasters.ignore_holes(ids, scene, pair.window)
        if _is_empty(labels.count_values(ids), rules):
            return _left_out(pair)
        label, shown = png.encode(ids), areas.to_text(areas.measure(ids))
    height, width, channels = pixels.shape
    if channels == 3:
        data, ext, pixels = images.encode(pixels, rules.images)
    else:
        data, ext = rows.encode(pixels), "npy"
    sums = rows.block_sums(pixels) if ext == "npy" else None
    return Converted(data, ext, label, height, width, *rasters.count(pixels), shown, sums)


def _convert(pair: Pair, rules: Rules) -> Converted | Skipped:
    if pair.window is not None:
        return _convert_tile(pair, rules)
    label, label_hw, shown, unmatched = None, None, None, 0
    upright = isinstance(pair.label, DrawnLabel) and pair.label.upright
    data = pair.image.read()
    if pair.label is not None:
        stored = _label(pair.label, data, pair.image.name, rules)
        if _is_empty(stored.pixels, rules):
            return _left_out(pair)
        label, ids, unmatched = stored.png, stored.ids, stored.unmatched
        label_hw = (ids.shape[0], ids.shape[1])
        if size := images.fit(*label_hw, rules.images.max_side):
            ids = labels.resize(ids, size)
            label = png.encode(ids)
        shown = areas.to_text(areas.measure(ids))
    image = images.normalize(data, pair.image.name, label_hw, rules.images, upright)
    return Converted(
        image.data,
        image.ext,
        label,
        image.height,
        image.width,
        image.channel_sum,
        image.channel_square_sum,
        shown,
        image.row_crc32,
        image.data is data,
        unmatched,
    )


def _label(label: Source | DrawnLabel, image: bytes, image_name: str, rules: Rules) -> StoredLabel:
    """A mask file, or an annotation's shapes drawn for this image."""
    if isinstance(label, Source):
        return labels.normalize(label.read(), label.name, rules.labels, rules.classes)
    return labels.drawn(label, *image_size(image, image_name, label.upright))


def convert_all(pairs: Iterable[Pair], rules: Rules, workers: int) -> Generator[Converted | Skipped, None, None]:
    """Converts in parallel, yields in order, with a bounded number of samples in memory.

    UserError on a broken file (unless those are skipped), or when a worker process dies.
    """
    if workers == 1:
        for pair in pairs:
            yield convert(pair, rules)
        return
    work = Work(_convert_in_worker, lambda pair: pair.image.name, _start_worker, (rules,))
    with contextlib.closing(in_order(pairs, work, workers)) as results:
        yield from results


_rules: Rules  # a worker's own copy, sent once


def _start_worker(rules: Rules) -> None:
    global _rules
    _rules = rules


def _convert_in_worker(pair: Pair) -> Converted | Skipped:
    """Leaves out the bytes that the writer can take from the page cache: cheaper than a pipe between processes."""
    result = convert(pair, _rules)
    if isinstance(result, Converted) and result.as_source and pair.image.loose:
        return dataclasses.replace(result, image=b"")
    return result
