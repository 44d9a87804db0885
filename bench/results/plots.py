"""Bar charts as PNG, with Pillow alone."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

from ingest.shards import atomic

WIDTH, ROW, HEAD, FOOT = 900, 34, 46, 34  # pixels
LEFT, RIGHT = 330, 190  # for the names, and for the numbers behind the bars
OVERSAMPLE = 2  # drawn larger and reduced: Pillow's text and lines are smoother so
INK, FAINT, BAR, OURS = (40, 40, 40), (120, 120, 120), (176, 196, 222), (31, 99, 181)


@dataclass(frozen=True)
class Bar:
    """One measured row."""

    name: str
    value: float
    low: float
    """The least and the most of the repeats: drawn as a whisker."""
    high: float
    note: str = ""
    """Behind the value."""
    ours: bool = False


@dataclass(frozen=True)
class Chart:
    title: str
    unit: str
    bars: Sequence[Bar]


def draw(charts: Sequence[Chart], path: str | os.PathLike[str]) -> None:
    """Draws the charts below each other, each on a scale of its own that starts at 0, and writes a PNG."""
    heights = [HEAD + ROW * len(chart.bars) + FOOT for chart in charts]
    image = Image.new("RGB", (WIDTH * OVERSAMPLE, sum(heights) * OVERSAMPLE), "white")
    canvas = ImageDraw.Draw(image)
    top = 0
    for chart, height in zip(charts, heights, strict=True):
        _chart(canvas, chart, top)
        top += height
    with atomic.replacing(path) as partial:
        image.resize((WIDTH, top), Image.Resampling.LANCZOS).save(partial, format="PNG")


def _chart(canvas: ImageDraw.ImageDraw, chart: Chart, top: int) -> None:
    s = OVERSAMPLE
    font, bold, small = (ImageFont.load_default(size=size * s) for size in (14, 17, 12))
    most = max((bar.high for bar in chart.bars), default=0) or 1.0
    room = WIDTH - LEFT - RIGHT
    canvas.text((20 * s, (top + 14) * s), chart.title, fill=INK, font=bold, anchor="lt")
    for number, bar in enumerate(chart.bars):
        upper = top + HEAD + number * ROW + 4
        lower, middle = upper + ROW - 10, upper + (ROW - 10) / 2
        end = LEFT + bar.value / most * room
        color = OURS if bar.ours else BAR
        canvas.text(((LEFT - 10) * s, middle * s), bar.name, fill=INK, font=font, anchor="rm")
        canvas.rectangle([LEFT * s, upper * s, max(end, LEFT + 1) * s, lower * s], fill=color)
        low, high = (LEFT + edge / most * room for edge in (bar.low, bar.high))
        canvas.line([low * s, middle * s, high * s, middle * s], fill=INK, width=s)
        text = f"{bar.value:,.0f}" if bar.value >= 100 else f"{bar.value:.1f}"
        canvas.text(
            ((max(end, high) + 8) * s, middle * s), f"{text}  {bar.note}".rstrip(), fill=INK, font=font, anchor="lm"
        )
    bottom = top + HEAD + len(chart.bars) * ROW + 4
    canvas.line([LEFT * s, (top + HEAD) * s, LEFT * s, (bottom - 4) * s], fill=INK, width=s)
    canvas.text((LEFT * s, bottom * s), chart.unit, fill=FAINT, font=small, anchor="lt")
