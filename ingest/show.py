"""Contact sheets: what is in the shards, to be looked at."""

from __future__ import annotations

import io
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from ingest.errors import UserError
from ingest.shards import manifest
from ingest.shards.manifest import IGNORE, Manifest
from ingest.shards.tar import read_samples

_CELL = 320  # longest side of a picture, pixels
_GAP, _LINE, _SWATCH = 8, 18, 12
_PAPER, _INK, _FAINT = (24, 24, 27), (244, 244, 245), (161, 161, 170)
_MAX_WIDTH = 4 * (_CELL + _GAP)


def sheet(folder: Path, split: str, count: int) -> Image.Image:
    """The split's first `count` samples (shuffled at ingest, so a fair draw): image, label in colours, and a legend.

    Raises UserError when the split is unknown.
    """
    facts = manifest.load(folder)
    chosen = facts.split(split)
    samples = [
        sample for shard in chosen.shards for sample in islice(read_samples(folder / f"{shard.name}.tar"), count)
    ][:count]
    cells = [_cell(key, files, facts, chosen.labeled) for key, files in samples]
    width = max(cell.width for cell in cells)
    height = max(cell.height for cell in cells)
    columns = max(1, min(len(cells), _MAX_WIDTH // width))
    rows = -(-len(cells) // columns)
    total_width = max(columns * (width + _GAP) + _GAP, 480)
    legend = _legend(facts, chosen.class_pixels, total_width) if chosen.labeled else Image.new("RGB", (1, 1), _PAPER)
    page = Image.new("RGB", (total_width, rows * (height + _GAP) + _GAP + legend.height), _PAPER)
    for number, cell in enumerate(cells):
        page.paste(cell, (_GAP + number % columns * (width + _GAP), _GAP + number // columns * (height + _GAP)))
    page.paste(legend, (0, page.height - legend.height))
    return page


def colors(ids: NDArray[np.uint8], palette: list[list[int]]) -> NDArray[np.uint8]:
    """Train ids uint8 [H, W] -> RGB uint8 [H, W, 3]; ignored pixels white."""
    table = np.full((256, 3), 255, np.uint8)
    table[: len(palette)] = palette
    return table[ids]


def _cell(key: str, files: dict[str, bytes], facts: Manifest, labeled: bool) -> Image.Image:
    """Image | label over a darkened image, with the key below."""
    image_ext = next(ext for ext in files if ext != "seg.png")
    image = _picture(files[image_ext], image_ext)
    pictures = [image]
    if labeled:
        ids = np.asarray(Image.open(io.BytesIO(files["seg.png"])))
        if ids.shape != (image.height, image.width):
            raise UserError(f"{key}: image and label differ in size: run `python -m ingest verify`")
        blend = 0.75 * colors(ids, facts.palette) + 0.25 * np.asarray(image)
        pictures.append(Image.fromarray(blend.astype(np.uint8)))
    scale = min(1.0, _CELL / max(image.size))
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    cell = Image.new("RGB", (size[0] * len(pictures) + 2 * (len(pictures) - 1), size[1] + _LINE), _PAPER)
    for number, picture in enumerate(pictures):
        cell.paste(picture.resize(size, Image.Resampling.BOX), (number * (size[0] + 2), 0))
    ImageDraw.Draw(cell).text((0, size[1] + 2), key, _FAINT, font=_font())
    return cell


def _picture(data: bytes, ext: str) -> Image.Image:
    """As RGB; of an array of bands the first three, or one as grey."""
    if ext != "npy":
        return Image.open(io.BytesIO(data)).convert("RGB")
    pixels = np.load(io.BytesIO(data), allow_pickle=False)
    return Image.fromarray(pixels[..., :3] if pixels.shape[2] >= 3 else np.repeat(pixels[..., :1], 3, axis=2))


def _legend(facts: Manifest, pixels: list[int], width: int) -> Image.Image:
    """A swatch a class with its share of the labelled pixels, and white for ignored ones."""
    total = max(1, sum(pixels))
    entries = [
        (tuple(color), f"{name} {100 * count / total:.1f}%")
        for name, color, count in zip(facts.classes, facts.palette, pixels, strict=True)
    ]
    entries.append(((255, 255, 255), f"ignored ({IGNORE})"))
    font = _font()
    step = _SWATCH + 6 + max(int(font.getlength(text)) for _, text in entries) + 16
    columns = max(1, (width - 2 * _GAP) // step)
    page = Image.new("RGB", (width, -(-len(entries) // columns) * _LINE + 2 * _GAP), _PAPER)
    draw = ImageDraw.Draw(page)
    for number, (color, text) in enumerate(entries):
        x, y = _GAP + number % columns * step, _GAP + number // columns * _LINE
        draw.rectangle((x, y, x + _SWATCH, y + _SWATCH), color, _FAINT)
        draw.text((x + _SWATCH + 6, y - 1), text, _INK, font=font)
    return page


def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(12)
