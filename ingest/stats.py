"""Class shares, image sizes and class weights of a split, from its manifest alone."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from ingest.errors import UserError
from ingest.report import table
from ingest.shards import class_weights, manifest, wording

_MOST_BARS = 40  # in a column of the plot


@dataclass(frozen=True)
class ClassStats:
    """One class over the labeled pixels of a split."""

    name: str
    color: list[int]
    pixels: int
    share: float  # of the pixels that are not ignored
    # As loss.class_weights has them (ingest/shards/class_weights.py); 0 for a class that never occurs
    inverse_weight: float  # frequency
    median_weight: float | None  # median_frequency; None where it was not recorded which images show which class


@dataclass(frozen=True)
class Stats:
    """What `python -m ingest stats` reports."""

    dataset: str
    split: str
    samples: int
    ignored_share: float
    image_size: dict[str, list[int]]  # min, median, max: [height, width]
    mean: list[float]
    std: list[float]
    classes: list[ClassStats]


def measure(folder: Path, split: str) -> Stats:
    """Raises UserError on an unknown or unlabeled split."""
    facts = manifest.load(folder)
    chosen = facts.split(split)
    total = sum(chosen.class_pixels)
    if not chosen.labeled or not total:
        raise UserError(f"split {split!r} of {folder} has no labeled pixels: choose another --split")
    medians: list[float] | list[None] = [None] * len(facts.classes)
    if chosen.class_image_pixels:
        medians = class_weights.median_frequency(chosen.class_pixels, chosen.class_image_pixels)
    classes = [
        ClassStats(name, color, pixels, pixels / total, inverse, median)
        for name, color, pixels, inverse, median in zip(
            facts.classes,
            facts.palette,
            chosen.class_pixels,
            class_weights.inverse_frequency(chosen.class_pixels),
            medians,
            strict=True,
        )
    ]
    ignored = chosen.ignored_pixels / (total + chosen.ignored_pixels)
    return Stats(facts.name, split, chosen.samples, ignored, chosen.image_size, facts.mean, facts.std, classes)


def as_json(stats: Stats) -> str:
    return json.dumps(asdict(stats), indent=1)


def as_table(stats: Stats) -> str:
    """A line a class, most frequent first, and the sizes below."""
    rows = [["class", "pixels", "share", "1/frequency", "median frequency"]]
    for one in sorted(stats.classes, key=lambda one: -one.pixels):
        rows.append(
            [
                one.name,
                f"{one.pixels:,}",
                wording.share(one.share, 1, digits=2),
                f"{one.inverse_weight:.3f}",
                "-" if one.median_weight is None else f"{one.median_weight:.3f}",
            ]
        )
    sizes = ", ".join(f"{name} {height}x{width}" for name, (height, width) in stats.image_size.items())
    ignored = f"{wording.share(stats.ignored_share, 1, digits=2)} of the" if stats.ignored_share else "no"
    return (
        f"{table(rows)}\n{stats.dataset} {stats.split}: {wording.count(stats.samples, 'sample')}, "
        f"height x width {sizes}; {ignored} pixels ignored"
    )


def draw(stats: Stats) -> Image.Image:
    """A bar a class, most frequent first, in the class's color; many classes stand in columns."""
    line, left = 20, 170
    classes = sorted(stats.classes, key=lambda one: -one.pixels)
    columns = -(-len(classes) // _MOST_BARS)
    rows = -(-len(classes) // columns)
    bar = 480 if columns == 1 else 200
    width = left + bar + 90
    page = Image.new("RGB", (columns * width, (rows + 2) * line), (255, 255, 255))
    pen, font = ImageDraw.Draw(page), ImageFont.load_default(12)
    title = f"{stats.dataset} {stats.split}: share of the labeled pixels, {wording.count(stats.samples, 'sample')}"
    pen.text((8, 6), title, (0, 0, 0), font=font)
    top = classes[0].share
    for number, one in enumerate(classes):
        x, y = number // rows * width + left, (number % rows + 1) * line + 10
        pen.text((x - 8 - font.getlength(one.name[:26]), y), one.name[:26], (40, 40, 40), font=font)
        end = x
        if one.pixels:
            end += max(1, round(bar * one.share / top))
            pen.rectangle((x, y + 1, end, y + line - 6), tuple(one.color), (150, 150, 150))
        pen.text((end + 6, y), wording.share(one.share, 1, digits=2), (90, 90, 90), font=font)
    return page
