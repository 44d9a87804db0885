"""Labels as colours, and contact sheets of image | label | prediction."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

Array = NDArray[np.uint8]

VOID = (224, 224, 192)  # the colour of ignored pixels, as in VOC's figures
_MARGIN = 6


def colorize(label: Array, palette: Sequence[Sequence[int]], ignore: int = 255) -> Array:
    """Class ids uint8 [H, W] -> colours uint8 [H, W, 3]."""
    table = np.zeros((256, 3), dtype=np.uint8)
    table[: len(palette)] = palette
    table[ignore] = VOID
    return table[label]


def overlay(image: Array, colours: Array, opacity: float = 0.55) -> Array:
    """Colours laid over an image, both uint8 [H, W, 3]."""
    return cv2.addWeighted(image, 1 - opacity, colours, opacity, 0)


def errors(label: Array, prediction: Array, ignore: int = 255) -> Array:
    """Where a prediction is wrong: red; right: dark grey; not judged: light. uint8 [H, W] twice -> [H, W, 3]."""
    picture = np.full((*label.shape, 3), 60, dtype=np.uint8)
    picture[prediction != label] = (220, 40, 40)
    picture[label == ignore] = VOID
    return picture


def contact_sheet(
    rows: Sequence[Sequence[Array]],
    titles: Sequence[str],
    classes: Sequence[str],
    palette: Sequence[Sequence[int]],
    height: int = 180,
) -> Array:
    """Rows of pictures (uint8 [H, W, 3]) under column titles, with a legend of the classes below."""
    scaled = [[_to_height(picture, height) for picture in row] for row in rows]
    widths = [max(row[column].shape[1] for row in scaled) for column in range(len(titles))]
    font = ImageFont.load_default(13)
    head = 24
    total_width = max(sum(widths) + _MARGIN * (len(widths) + 1), 360)
    legend = _legend(classes, palette, total_width, font)
    sheet = Image.new(
        "RGB", (total_width, head + len(rows) * (height + _MARGIN) + legend.height + _MARGIN), (255, 255, 255)
    )
    draw = ImageDraw.Draw(sheet)
    lefts = [_MARGIN + sum(widths[:i]) + _MARGIN * i for i in range(len(widths))]
    for left, title in zip(lefts, titles, strict=True):
        draw.text((left, 4), title, fill=(0, 0, 0), font=font)
    for number, row in enumerate(scaled):
        for left, picture in zip(lefts, row, strict=True):
            sheet.paste(Image.fromarray(picture), (left, head + number * (height + _MARGIN)))
    sheet.paste(legend, (0, sheet.height - legend.height))
    return np.asarray(sheet)


def save(picture: Array, path: str | Path) -> None:
    """Writes a PNG (or what the suffix says), folders made as needed."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(path)


def _to_height(picture: Array, height: int) -> Array:
    width = max(1, round(picture.shape[1] * height / picture.shape[0]))
    shrinks = height < picture.shape[0]
    return cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_NEAREST)


def _legend(
    classes: Sequence[str],
    palette: Sequence[Sequence[int]],
    width: int,
    font: ImageFont.ImageFont | ImageFont.FreeTypeFont,
) -> Image.Image:
    """Colour patches with names, in as many lines as the width asks for."""
    entries = [*zip(classes, map(tuple, palette), strict=True), ("ignored", VOID)]
    places, x, y = [], _MARGIN, 4
    for name, _ in entries:
        step = 24 + int(font.getlength(name)) + 12
        if x + step > width and x > _MARGIN:
            x, y = _MARGIN, y + 20
        places.append((x, y))
        x += step
    picture = Image.new("RGB", (width, y + 24), (255, 255, 255))
    draw = ImageDraw.Draw(picture)
    for (name, colour), (x, y) in zip(entries, places, strict=True):
        draw.rectangle((x, y + 2, x + 16, y + 14), fill=tuple(colour), outline=(0, 0, 0))
        draw.text((x + 21, y), name, fill=(0, 0, 0), font=font)
    return picture
