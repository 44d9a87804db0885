"""From shards' records to what dataset.json says of a split: one truth for ingest, reindex and verify."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np

from ingest.shards.manifest import IGNORE, IndexFile, Sample, Shard, ShardRecord, Skipped, Split


def training_split(splits: Iterable[str]) -> str:
    """The split whose images give mean and std: `train`, else the first `train...`, else the first."""
    names = list(splits)
    return "train" if "train" in names else next((name for name in names if name.startswith("train")), names[0])


def mean_std(records: Sequence[ShardRecord]) -> tuple[list[float], list[float]]:
    """Per channel, 0..1, from integer totals: exact but for the last division."""
    pixels = sum(sample.height * sample.width for record in records for sample in record.samples)
    mean, std = [], []
    for total, squares in zip(
        add(record.channel_sum for record in records),
        add(record.channel_square_sum for record in records),
        strict=True,
    ):
        mean.append(total / pixels / 255)
        std.append(math.sqrt(pixels * squares - total * total) / pixels / 255)
    return mean, std


def split(
    records: Sequence[ShardRecord],
    record_sums: Sequence[str],
    index: IndexFile | None,
    labeled: bool,
    skipped: Sequence[Skipped] = (),
) -> Split:
    """A split's facts. record_sums: sha256 of each `<name>.json`; skipped: files left out before any shard."""
    images, image_pixels = _seen(records)
    return Split(
        samples=sum(len(record.samples) for record in records),
        labeled=labeled,
        shards=[
            Shard(record.name, len(record.samples), record.bytes, record.sha256, digest)
            for record, digest in zip(records, record_sums, strict=True)
        ],
        class_pixels=add(record.class_pixels for record in records),
        ignored_pixels=sum(record.ignored_pixels for record in records),
        image_size=image_size([sample for record in records for sample in record.samples]),
        skipped=[*skipped, *(one for record in records for one in record.skipped)],
        index=index,
        class_images=images,
        class_image_pixels=image_pixels,
        unmatched_pixels=sum(record.unmatched_pixels for record in records),
    )


def image_size(samples: Sequence[Sample]) -> dict[str, list[int]]:
    """Smallest, median and largest [height, width], each of its own axis, in pixels."""
    axes = [sorted(sample.height for sample in samples), sorted(sample.width for sample in samples)]
    return {
        "min": [axis[0] for axis in axes],
        "median": [axis[(len(axis) - 1) // 2] for axis in axes],
        "max": [axis[-1] for axis in axes],
    }


def class_totals(samples: Iterable[Sample], num_classes: int) -> tuple[list[int], int]:
    """(pixels per class, ignored pixels) from what the samples' records say."""
    totals = [0] * 256
    for sample in samples:
        for value, pixels, _ in sample.classes or []:
            totals[value] += pixels
    return totals[:num_classes], totals[IGNORE]


def _seen(records: Sequence[ShardRecord]) -> tuple[list[int], list[int]]:
    """Per class: the images that show it, and those images' pixels, ignored ones too."""
    num_classes = len(records[0].class_pixels)
    images, pixels = np.zeros(num_classes, np.int64), np.zeros(num_classes, np.int64)
    for record in records:
        for sample in record.samples:
            ids = [value for value, _, _ in sample.classes or [] if value != IGNORE]
            images[ids] += 1
            pixels[ids] += sample.height * sample.width
    return images.tolist(), pixels.tolist()


def add(rows: Iterable[list[int]]) -> list[int]:
    """Column sums, in Python's exact integers."""
    return [sum(column) for column in zip(*rows, strict=True)]
