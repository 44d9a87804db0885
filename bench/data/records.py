"""A shard folder of any number of samples for `bench.scale`: true indexes over tars that take no room on the disk."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ingest.shards import columns_writer, manifest
from ingest.shards.columns import Columns

SPLIT = "train"
_CLASSES = 19
_IMAGE, _LABEL = 100_000, 4_000  # bytes of a sample's files
_SAMPLE = 512 + 100_352 + 512 + 4_096  # bytes in the tar: two headers, files filled up to blocks of 512
_SIZES = np.array([(375, 500), (500, 375), (333, 500), (480, 640)])
_DIGITS = 9


def write(folder: Path, samples: int, shards: int, shown: int) -> Path:
    """`samples` records, evenly in `shards` shards, each image showing `shown` classes. Returns the folder.

    Its tars are of the right size but hold nothing (sparse files): it can be opened and planned, not read.
    """
    folder.mkdir(parents=True)
    counts = [samples // shards + (number < samples % shards) for number in range(shards)]
    index = columns_writer.write(folder, SPLIT, _parts(counts, shown))
    listed = []
    for number, count in enumerate(counts):
        name = f"{SPLIT}-{number:06d}"
        with open(folder / f"{name}.tar", "wb") as tar:
            os.truncate(tar.fileno(), count * _SAMPLE)
        listed.append(manifest.Shard(name, count, count * _SAMPLE, f"{number:064x}", f"{number:064x}"))
    per_class = [0] * _CLASSES
    split = manifest.Split(
        samples, True, listed, per_class, 0, {}, index=index, class_images=per_class, class_image_pixels=per_class
    )
    facts = manifest.Manifest(
        name="records",
        classes=[f"class {number}" for number in range(_CLASSES)],
        palette=[[number, number, number] for number in range(_CLASSES)],
        mean=[0.5] * 3,
        std=[0.25] * 3,
        splits={SPLIT: split},
        command="",
        options={},
    )
    manifest.save(facts, folder)
    return folder


def _parts(counts: list[int], shown: int) -> Iterator[Columns]:
    """The columns of each shard."""
    first = 0
    for count in counts:
        numbers = np.arange(first, first + count)
        first += count
        at = np.arange(count, dtype=np.int64) * _SAMPLE + 512
        entries = count * shown
        yield Columns(
            key_end=(np.arange(count, dtype=np.int64) + 1) * _DIGITS,
            key_text=_digits(numbers),
            image_form=np.zeros(count, np.uint8),
            image_at=at,
            image_bytes=np.full(count, _IMAGE, np.int64),
            image_crc32=numbers.astype(np.uint32),
            label_at=at + 100_352 + 512,
            label_bytes=np.full(count, _LABEL, np.int64),
            label_crc32=numbers.astype(np.uint32),
            size_hw=_SIZES[numbers % len(_SIZES)],
            row_end=np.zeros(count, np.int64),
            row_crc32=np.zeros(0, np.uint32),
            class_end=(np.arange(count, dtype=np.int64) + 1) * shown,
            class_id=((np.arange(entries) % shown + np.repeat(numbers, shown)) % _CLASSES).astype(np.uint8),
            class_pixels=np.full(entries, 1000, np.uint32),
            class_grid=np.full((entries, 8, 8), 30, np.uint8),
        )


def _digits(numbers: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Decimal text of fixed length, one number after the other."""
    powers = 10 ** np.arange(_DIGITS - 1, -1, -1)
    return (numbers[:, None] // powers % 10 + ord("0")).astype(np.uint8).ravel()
