"""What images stored as pixels will take on the disk, said before it is begun, and refused where there is no room."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

from ingest.errors import UserError
from ingest.pixels import images
from ingest.pixels.raw import facts
from ingest.shards.wording import human_bytes
from ingest.sources.raw import Pair, RawDataset

_LOOKED_AT = 256  # images whose size is read, evenly spread; the others are taken to be like them


def raw_bytes(raw: RawDataset, max_side: int | None) -> int:
    """About the bytes of all splits' images as pixels, and of their labels as PNGs."""
    return sum(_split_bytes(pairs, raw.pixels.channels, max_side) for pairs in raw.splits.values())


def _split_bytes(pairs: list[Pair], channels: int, max_side: int | None) -> int:
    chosen = pairs[:: -(-len(pairs) // _LOOKED_AT)]
    pixels = []
    for pair in chosen:
        with contextlib.suppress(UserError):  # a broken file is told of when its turn comes
            pixels.append(_pixels(pair, max_side))
    labels = sum(pair.label.size for pair in pairs if pair.label)
    return round(sum(pixels) / max(1, len(pixels)) * len(pairs) * channels) + labels + 1536 * len(pairs)


def _pixels(pair: Pair, max_side: int | None) -> int:
    if pair.window is not None:
        return pair.window[2] * pair.window[3]
    head = facts(pair.image)
    height, width = images.fit(head.height, head.width, max_side) or (head.height, head.width)
    return height * width


def check(needed: int, source: int, out: Path) -> str:
    """What it will take, in a line. UserError when the disk of `out` has less. source: bytes of the source files."""
    place = out
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    times = f", {needed / source:.1f} times the source files" if source else ""
    cost = f"images as pixels take about {human_bytes(needed)}{times}"
    if needed > free:
        raise UserError(
            f"{cost}; {os.path.realpath(place)} has {human_bytes(free)} free: make room, write to another disk with "
            f"--out, or take --image-format png or jpeg:95"
        )
    return f"{cost}; {human_bytes(free)} are free"
