"""Line charts and confusion matrices, with Pillow alone: they do not pay for a plotting library."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from ingest.shards import atomic

WIDTH, HEIGHT = 900, 300  # of one panel, pixels
LEFT, RIGHT, TOP, BOTTOM = 90, 30, 40, 50  # margins around the plotted area
OVERSAMPLE = 3  # drawn larger and reduced: Pillow's lines are not anti-aliased
INK, GRID, CURVE = (40, 40, 40), (225, 225, 225), (31, 99, 181)


@dataclass(frozen=True)
class Panel:
    """One curve: xs ascending, ys of the same length."""

    title: str
    xs: Sequence[float]
    ys: Sequence[float]


def draw(panels: Sequence[Panel], path: str | os.PathLike[str], x_label: str = "") -> None:
    """Draws the panels below each other, over a shared x-axis label, and writes a PNG."""
    image = Image.new("RGB", (WIDTH * OVERSAMPLE, HEIGHT * OVERSAMPLE * len(panels)), "white")
    canvas = ImageDraw.Draw(image)
    for index, panel in enumerate(panels):
        _panel(canvas, panel, index * HEIGHT, x_label)
    with atomic.replacing(path) as partial:
        image.resize((WIDTH, HEIGHT * len(panels)), Image.Resampling.LANCZOS).save(partial, format="PNG")


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """About `count` round numbers (1, 2 or 5 times a power of ten apart) that enclose [low, high]."""
    if not high > low:  # a constant curve still gets an axis around it
        low, high = low - (abs(low) or 1) * 0.5, high + (abs(high) or 1) * 0.5
    rough = (high - low) / max(1, count - 1)
    magnitude = 10.0 ** math.floor(math.log10(rough))
    step = magnitude * next(m for m in (1, 2, 5, 10) if m * magnitude >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [tick * step for tick in range(first, last + 1)]


def _panel(canvas: ImageDraw.ImageDraw, panel: Panel, top: int, x_label: str) -> None:
    font = ImageFont.load_default(size=14 * OVERSAMPLE)
    title_font = ImageFont.load_default(size=17 * OVERSAMPLE)
    y_ticks = ticks(min(panel.ys), max(panel.ys))
    x_ticks = [tick for tick in ticks(panel.xs[0], panel.xs[-1], 9) if panel.xs[0] <= tick <= panel.xs[-1]]
    x_low, x_high = panel.xs[0], max(panel.xs[-1], panel.xs[0] + 1)
    y_low, y_high = y_ticks[0], y_ticks[-1]

    def at(x: float, y: float) -> tuple[float, float]:
        right = LEFT + (x - x_low) / (x_high - x_low) * (WIDTH - LEFT - RIGHT)
        down = top + TOP + (y_high - y) / (y_high - y_low) * (HEIGHT - TOP - BOTTOM)
        return right * OVERSAMPLE, down * OVERSAMPLE

    for tick in y_ticks:
        canvas.line([at(x_low, tick), at(x_high, tick)], fill=GRID, width=OVERSAMPLE)
        x, y = at(x_low, tick)
        canvas.text((x - 8 * OVERSAMPLE, y), f"{tick:.6g}", fill=INK, font=font, anchor="rm")
    for tick in x_ticks:
        canvas.line([at(tick, y_low), at(tick, y_high)], fill=GRID, width=OVERSAMPLE)
        x, y = at(tick, y_low)
        canvas.text((x, y + 8 * OVERSAMPLE), f"{tick:,.6g}", fill=INK, font=font, anchor="mt")
    canvas.line([at(x_low, y_high), at(x_low, y_low), at(x_high, y_low)], fill=INK, width=OVERSAMPLE)
    points = [at(x, y) for x, y in zip(panel.xs, panel.ys, strict=True)]
    if len(points) > 1:
        canvas.line(points, fill=CURVE, width=2 * OVERSAMPLE, joint="curve")
    canvas.text((LEFT * OVERSAMPLE, (top + 12) * OVERSAMPLE), panel.title, fill=INK, font=title_font, anchor="lt")
    middle = (LEFT + (WIDTH - LEFT - RIGHT) / 2) * OVERSAMPLE
    canvas.text((middle, (top + HEIGHT - 8) * OVERSAMPLE), x_label, fill=INK, font=font, anchor="mb")


def confusion_matrix(matrix: NDArray[np.int64], classes: Sequence[str]) -> NDArray[np.uint8]:
    """Draws int64 [K, K], true class by predicted class, as uint8 [H, W, 3]; readable for 2 to some 200 classes.

    Each row is divided by its sum: the diagonal shows recalls. Up to 30 classes the cells hold percents. The row of a
    class that is not in the ground truth is hatched.
    """
    count = len(classes)
    cell = 30 if count <= 30 else 16 if count <= 60 else 11
    font = ImageFont.load_default(size=12 if count <= 60 else 9)
    names = [name if len(name) <= 24 else name[:23] + "…" for name in classes]
    side = int(max(font.getlength(name) for name in names)) + 8
    left, top, size = side + 20, side + 20, count * cell
    caption, title = ImageFont.load_default(size=12), "predicted: share of each true class (row)"
    width = max(left + size + 10, int(caption.getlength(title)) + 20)
    picture = Image.new("RGB", (width, top + size + 10), "white")
    canvas = ImageDraw.Draw(picture)
    canvas.text((10, 4), title, fill=INK, font=caption)
    column_names = Image.new("RGB", (side, size), "white")  # turned by a quarter below
    for index, name in enumerate(names):
        middle = int((index + 0.5) * cell)
        canvas.text((left - 4, top + middle), name, fill=INK, font=font, anchor="rm")
        ImageDraw.Draw(column_names).text((4, middle), name, fill=INK, font=font, anchor="lm")
    picture.paste(column_names.rotate(90, expand=True), (left, 20))
    totals = matrix.sum(axis=1, keepdims=True)
    shares = matrix / np.maximum(totals, 1)
    for row in range(count):
        for column in range(count):
            x, y = left + column * cell, top + row * cell
            box = (x, y, x + cell - 1, y + cell - 1)
            if not totals[row, 0]:
                canvas.line((x, y + cell - 1, x + cell - 1, y), fill=GRID)
                continue
            share = float(shares[row, column])
            # the root lifts small confusions out of the white
            canvas.rectangle(box, fill=_between((250, 251, 253), CURVE if row == column else (196, 60, 45), share**0.5))
            if cell >= 30 and share >= 0.005:
                ink = "white" if share > 0.35 else INK
                canvas.text((x + cell / 2, y + cell / 2), f"{100 * share:.0f}", fill=ink, font=caption, anchor="mm")
    for index in range(count + 1) if cell >= 16 else ():
        canvas.line((left + index * cell - 1, top, left + index * cell - 1, top + size), fill=GRID)
        canvas.line((left, top + index * cell - 1, left + size, top + index * cell - 1), fill=GRID)
    canvas.rectangle((left - 1, top - 1, left + size, top + size), outline=INK)
    return np.asarray(picture)


def _between(low: tuple[int, int, int], high: tuple[int, int, int], share: float) -> tuple[int, int, int]:
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(low, high, strict=True))
    return red, green, blue
