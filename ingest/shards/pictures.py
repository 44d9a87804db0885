"""Labels in color, errors, legends and contact sheets: every picture of the project is drawn here.

In all of them ignored pixels have the one color IGNORED; where a prediction is compared with a label, wrong pixels are
WRONG and right ones RIGHT, which is dark.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from ingest.errors import UserError
from ingest.shards import atomic
from ingest.shards.manifest import IGNORE
from ingest.shards.wording import share

Array = NDArray[np.uint8]
Color = tuple[int, int, int]

IGNORED: Color = (224, 224, 192)  # as in the figures of PASCAL VOC
WRONG: Color = (220, 40, 40)
RIGHT: Color = (60, 60, 60)

MOST_LISTED = 40  # classes of a legend that also lists what does not occur
_GAP, _LINE, _SWATCH = 10, 18, 12
_PAPER, _INK, _FAINT = (24, 24, 27), (244, 244, 245), (161, 161, 170)
_MAX_WIDTH = 1640


@dataclass(frozen=True)
class Panel:
    """One picture of a contact sheet, uint8 [H, W, 3]."""

    pixels: Array
    flat: bool = False
    """Colors that mean something: resized by taking the nearest pixel, so that none are mixed."""


@dataclass(frozen=True)
class Cell:
    """One sample: panels of one size side by side, lines of text below (the first one brighter)."""

    panels: Sequence[Panel]
    lines: Sequence[str]


@dataclass(frozen=True)
class Entry:
    """A color of a legend, and what it means."""

    text: str
    color: Color
    stripes: Color | None = None
    """A second color, where the area is striped."""


ERRORS = (Entry("wrong", WRONG), Entry("right (dark)", RIGHT))


def colorize(ids: Array, palette: Sequence[Sequence[int]], ignore: int = IGNORE) -> Array:
    """Class ids uint8 [H, W] -> colors uint8 [H, W, 3]."""
    table = np.zeros((256, 3), dtype=np.uint8)
    table[: len(palette)] = palette
    table[ignore] = IGNORED
    return table[ids]


def errors(label: Array, prediction: Array, ignore: int = IGNORE) -> Array:
    """Where a prediction is wrong, right, or not compared. uint8 [H, W] twice -> [H, W, 3]."""
    picture = np.empty((*label.shape, 3), dtype=np.uint8)
    picture[:] = RIGHT
    picture[prediction != label] = WRONG
    picture[label == ignore] = IGNORED
    return picture


def overlay(image: Array, colors: Array, opacity: float = 0.55, where: NDArray[np.bool_] | None = None) -> Array:
    """Colors laid over an image, both uint8 [H, W, 3]. where: bool [H, W], only there."""
    blend = cv2.addWeighted(image, 1 - opacity, colors, opacity, 0)
    return blend if where is None else np.where(where[:, :, None], blend, image)


def rgb(pixels: Array) -> Array:
    """An image of any number of channels, uint8 [H, W, C] -> [H, W, 3]: the first three, or the first as gray."""
    return pixels[..., :3] if pixels.shape[2] >= 3 else np.repeat(pixels[..., :1], 3, axis=2)


def class_entries(
    classes: Sequence[str],
    palette: Sequence[Sequence[int]],
    pixels: Sequence[int],
    shares: bool = False,
    absent: str = "not shown",
) -> list[Entry]:
    """The legend of the classes. pixels: of each class, int [K].

    Of more than MOST_LISTED classes only those that occur are listed, and the others counted in a last entry. shares:
    each with its share of all pixels. absent: how the others are called (`never seen`).
    """
    total = sum(pixels)
    listed = [c for c, count in enumerate(pixels) if count or len(classes) <= MOST_LISTED]
    entries = [
        Entry(
            classes[c] + (f" {share(pixels[c], total)}" if shares else ""),
            (palette[c][0], palette[c][1], palette[c][2]),
        )
        for c in listed
    ]
    missing = len(classes) - len(listed)
    return [*entries, Entry(f"{missing} {absent}", _PAPER)] if missing else entries


def ignored_entry(pixels: int = 0, total: int = 0) -> Entry:
    """The legend's entry for ignored pixels, with their share of all where it is known."""
    return Entry("ignored" + (f" {share(pixels, total)}" if total else ""), IGNORED)


def contact_sheet(
    cells: Sequence[Cell], titles: Sequence[str], entries: Sequence[Entry], side: int = 256, enlarge: bool = True
) -> Array:
    """Cells in rows, under a title for each of their panels, over a legend; uint8 [H, W, 3].

    side: longest side of a panel, pixels. enlarge: small panels are enlarged to that, as squares.
    """
    drawn = [_cell(cell, side, enlarge) for cell in cells]
    width, height = (max(each.size[axis] for each, _ in drawn) for axis in (0, 1))
    columns = max(1, min(len(drawn), _MAX_WIDTH // (width + _GAP)))
    rows = -(-len(drawn) // columns)
    total_width = max(columns * (width + _GAP) + _GAP, 480)
    below = legend(entries, total_width)
    head = _LINE + _GAP if titles else 0
    page = Image.new("RGB", (total_width, head + rows * (height + _GAP) + _GAP + below.height), _PAPER)
    pen, font = ImageDraw.Draw(page), _font()
    for number, (each, lefts) in enumerate(drawn):
        x, y = _GAP + number % columns * (width + _GAP), head + _GAP + number // columns * (height + _GAP)
        page.paste(each, (x, y))
        if number < columns:
            for left, title in zip(lefts, titles, strict=False):
                pen.text((x + left, _GAP), title, _INK, font=font)
    page.paste(below, (0, page.height - below.height))
    return np.asarray(page)


def legend(entries: Sequence[Entry], width: int) -> Image.Image:
    """Swatches with their meaning, in columns of one width."""
    font = _font()
    step = _SWATCH + 6 + max((int(font.getlength(entry.text)) for entry in entries), default=0) + 16
    columns = max(1, (width - 2 * _GAP) // step)
    page = Image.new("RGB", (width, -(-len(entries) // columns) * _LINE + 2 * _GAP), _PAPER)
    draw = ImageDraw.Draw(page)
    for number, entry in enumerate(entries):
        x, y = _GAP + number % columns * step, _GAP + number // columns * _LINE
        if entry.color != _PAPER:
            draw.rectangle((x, y, x + _SWATCH, y + _SWATCH), entry.color, _FAINT)
        if entry.stripes:
            for stripe in range(0, _SWATCH, 4):
                draw.line((x + stripe, y + _SWATCH, x + _SWATCH, y + stripe), entry.stripes, 2)
        draw.text((x + _SWATCH + 6, y - 1), entry.text, _INK, font=font)
    return page


def with_legend(picture: Array, entries: Sequence[Entry]) -> Array:
    """A picture uint8 [H, W, 3], as it is, with a legend below it."""
    widest = max((int(_font().getlength(entry.text)) for entry in entries), default=0) + _SWATCH + 6 + 16 + 2 * _GAP
    below = legend(entries, max(picture.shape[1], widest))
    page = Image.new("RGB", (below.width, picture.shape[0] + below.height), _PAPER)
    page.paste(Image.fromarray(picture), (0, 0))
    page.paste(below, (0, picture.shape[0]))
    return np.asarray(page)


def save(picture: Array | Image.Image, path: str | Path, option: str = "--out") -> None:
    """Writes a PNG (or what the suffix says). UserError names the option where the suffix is of no picture."""
    path = Path(path)
    check_name(path, option)
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    encoded = io.BytesIO()
    image.save(encoded, Image.registered_extensions()[path.suffix.lower()], quality=92)
    atomic.write_bytes(path, encoded.getvalue())


def check_name(path: Path, option: str) -> None:
    """UserError where `save` could not write there: ask before the work is done."""
    if path.suffix.lower() not in (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"):
        raise UserError(f"{option} {path}: a picture is drawn, so give a name that ends in .png")
    if path.is_dir():
        raise UserError(f"{option} {path} is a folder: give a name that ends in .png")


def _cell(cell: Cell, side: int, enlarge: bool) -> tuple[Image.Image, list[int]]:
    """The cell's picture, and the left edge of each panel in it."""
    height, width = cell.panels[0].pixels.shape[:2]
    scale = side / max(height, width)
    if not enlarge:
        scale = min(1.0, scale)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    lefts = [number * (size[0] + 2) for number in range(len(cell.panels))]
    page = Image.new("RGB", (lefts[-1] + size[0], size[1] + _LINE * len(cell.lines)), _PAPER)
    for left, panel in zip(lefts, cell.panels, strict=True):
        # As sharp as the pixels are: enlarged ones stay squares, and colors that mean something never mix.
        how = Image.Resampling.BOX if scale < 1 and not panel.flat else Image.Resampling.NEAREST
        page.paste(Image.fromarray(np.ascontiguousarray(panel.pixels)).resize(size, how), (left, 0))
    draw = ImageDraw.Draw(page)
    for number, line in enumerate(cell.lines):
        ink = _FAINT if number else _INK
        draw.text((0, size[1] + 2 + number * _LINE), _fitted(line, page.width), ink, font=_font())
    return page, lefts


def _fitted(text: str, width: int) -> str:
    """The text, cut in its middle to so many pixels."""
    font = _font()
    if font.getlength(text) <= width:
        return text
    for kept in range(len(text) - 1, 1, -1):
        cut = text[: -(-kept // 2)] + "…" + text[len(text) - kept // 2 :]
        if font.getlength(cut) <= width:
            return cut
    return text[:1]


def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(12)
