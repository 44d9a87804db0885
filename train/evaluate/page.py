"""An evaluation's report: one HTML file that loads nothing: scores, confusions, calibration, images to look at."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ingest.shards import atomic, pictures
from ingest.shards.manifest import Manifest
from ingest.shards.wording import count
from train.distributed import Ranks
from train.evaluate.extremes import Extremes
from train.evaluate.findings import SURE, Area
from train.report.classes import class_table, confusion, data_uri, swatch
from train.report.images import images
from train.report.page import page
from train.report.run import RunRecord, read_images
from train.report.text import percent

Array = NDArray[np.uint8]

_MOST_PAIRS = 16  # shown with an example
_WIDE = 400  # of an image with an outline, about as wide as the page shows it, pixels
_DARK, _LINE = (0, 0, 0), (255, 230, 0)  # of the outline


@dataclass(frozen=True)
class Noticed:
    """What was kept for the report."""

    extremes: Extremes
    pairs: dict[tuple[int, int], Area]
    suspects: list[Area]


def write(
    path: Path, place: tuple[Manifest, Ranks], found: dict[str, Any], facts: dict[str, Any], noticed: Noticed
) -> None:
    """Writes the page. found: `tables.as_json`. Every rank calls it; the main one writes. Raises OSError."""
    manifest, ranks = place
    with tempfile.TemporaryDirectory(prefix="segrail-report-") as folder:
        noticed.extremes.save(Path(folder), ranks)
        if not ranks.is_main:
            return
        run = RunRecord(Path(folder), validation=found | {"step": facts["step"]})
        run.palette = {
            name: (color[0], color[1], color[2]) for name, color in zip(manifest.classes, manifest.palette, strict=True)
        }
        read_images(run)
        sections = [
            ("Classes", class_table(run)),
            ("Confusion", confusion(run)),
            ("Confused pairs", _pairs(run, manifest, noticed.pairs)),
            ("Suspected label errors", _suspects(run, manifest, noticed.suspects)),
            ("Calibration", _calibration(found["calibration"])),
            ("Images", images(run)),
        ]
        title = f"{facts['name']} on {manifest.name} {facts['split']}"
        path.parent.mkdir(parents=True, exist_ok=True)
        text = page(f"{title}: evaluation", _header(title, found, facts), sections, escape(str(facts["checkpoint"])))
        atomic.write_text(path, text)


def _header(title: str, found: dict[str, Any], facts: dict[str, Any]) -> str:
    said = [f"step {facts['step']:,}", count(found["images"], "image"), facts["method"], facts["data"]]
    low_high = {name: f"95%: {percent(low)} to {percent(high)}" for name, (low, high) in found["interval_95"].items()}
    tiles = [
        ("mIoU", percent(found["miou"]), low_high.get("miou", "")),
        ("pixel accuracy", percent(found["pixel_accuracy"]), low_high.get("pixel_accuracy", "")),
        ("mean class accuracy", percent(found["mean_class_accuracy"]), ""),
        ("mean Dice", percent(found["mean_dice"]), ""),
        ("frequency-weighted IoU", percent(found["frequency_weighted_iou"]), ""),
        ("calibration error", percent(found["calibration"]["ece"]), "expected; 0 is best"),
    ]
    if boundary := found.get("boundary"):
        tiles.append(("boundary mIoU", percent(boundary["mean_iou"]), f"within {boundary['width']}"))
        tiles.append(("boundary F", percent(boundary["mean_f"]), f"within {boundary['width']}"))
    over = f"over {found['miou_classes']} of {count(len(found['iou']), 'class', 'classes')}"
    tiles[0] = (*tiles[0][:2], " ".join(part for part in (over, tiles[0][2]) if part))
    cells = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(value)}<small>{escape(more)}</small></dd></div>"
        for name, value, more in tiles
    )
    return (
        f'<h1>{escape(title)}</h1><div class="sub">{" · ".join(escape(each) for each in said)}</div>'
        f'<dl class="tiles">{cells}</dl>'
    )


def _pairs(run: RunRecord, manifest: Manifest, pairs: dict[tuple[int, int], Area]) -> str:
    """The pairs with the most confused pixels, each with its largest area."""
    matrix = run.validation["confusion"]
    order = sorted(pairs, key=lambda pair: (-matrix[pair[0]][pair[1]], pair))[:_MOST_PAIRS]
    if not order:
        return "<p>None: every pixel is right.</p>"
    shown = []
    for pair in order:
        pixels, all_pixels = matrix[pair[0]][pair[1]], sum(matrix[pair[0]])
        said = f"{_named(run, manifest, pair)}: {count(pixels, 'pixel')}, {percent(pixels / all_pixels)} of the class"
        shown.append(_figure(said, pairs[pair], manifest))
    return f"<p>Each with the largest connected area where it happens.</p>{''.join(shown)}"


def _suspects(run: RunRecord, manifest: Manifest, suspects: list[Area]) -> str:
    if not suspects:
        return f"<p>None: nowhere is the net {100 * SURE:.0f}% sure of another class than the label's.</p>"
    shown = [
        _figure(f"{_named(run, manifest, (area.label, area.predicted))}: {count(area.pixels, 'pixel')}", area, manifest)
        for area in suspects
    ]
    return (
        f"<p>Where the net is at least {100 * SURE:.0f}% sure of another class than the label's, largest first. Most "
        f"of them may be the net's errors: look before you mend a label.</p>{''.join(shown)}"
    )


def _named(run: RunRecord, manifest: Manifest, pair: tuple[int, int]) -> str:
    label, predicted = (manifest.classes[c] for c in pair)
    return (
        f"labeled {swatch(run, label)}<b>{escape(label)}</b>, predicted {swatch(run, predicted)}"
        f"<b>{escape(predicted)}</b>"
    )


def _figure(said: str, area: Area, manifest: Manifest) -> str:
    """said: HTML."""
    panels = [
        ("image, the area outlined", _outlined(area), "JPEG"),
        ("label", pictures.colorize(area.labels, manifest.palette), "PNG"),
        ("prediction", pictures.colorize(area.predictions, manifest.palette), "PNG"),
        ("error (dark: right)", pictures.errors(area.labels, area.predictions), "PNG"),
    ]
    cells = "".join(
        f'<div><img src="{data_uri(Image.fromarray(pixels), kind)}" width="{pixels.shape[1]}" '
        f'height="{pixels.shape[0]}" alt="{escape(f"{title} of {area.key}")}"><small>{title}</small></div>'
        for title, pixels, kind in panels
    )
    y, x, height, width = area.box
    where = f'<span class="lowest">{escape(area.key)}, {height}x{width} at row {y}, column {x}</span>'
    caption = f"<figcaption><span>{said}</span>{where}</figcaption>"
    return f'<figure class="sample">{caption}<div class="panels">{cells}</div></figure>'


def _outlined(area: Area) -> Array:
    """The image with a line around the area, enlarged so that the line hides little."""
    times = max(1, round(_WIDE / area.image.shape[1]))
    height, width = area.image.shape[0] * times, area.image.shape[1] * times
    image = cv2.resize(area.image, (width, height), interpolation=cv2.INTER_LINEAR)
    inside = cv2.resize(area.inside, (width, height), interpolation=cv2.INTER_NEAREST)
    around, _ = cv2.findContours(inside, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    for color, thick in ((_DARK, 3), (_LINE, 1)):  # dark beside bright: seen on any photo
        cv2.drawContours(image, around, -1, color, thick)
    return image


def _calibration(found: dict[str, Any]) -> str:
    """The reliability diagram: bars of accuracy over confidence, the diagonal, and below how many pixels each has."""
    total = sum(found["pixels"])
    if not total:
        return "<p>No pixel counts.</p>"
    bins, left, top, side, low = len(found["pixels"]), 44, 8, 300, 60
    width, bars = side / bins, []
    for number, (pixels, accuracy, sure) in enumerate(
        zip(found["pixels"], found["accuracy"], found["confidence"], strict=True)
    ):
        if not pixels:
            continue
        x = left + number * width
        said = f"confidence {percent(sure)}, right {percent(accuracy)}, {percent(pixels / total)} of the pixels"
        high, share = side * accuracy, low * pixels / max(found["pixels"])
        bars.append(
            f'<g><title>{said}</title><rect x="{x:.1f}" y="{top + side - high:.1f}" width="{width - 1:.1f}" '
            f'height="{high:.1f}" fill="#1f63b5"/><rect x="{x:.1f}" y="{top + side + 28:.1f}" width="{width - 1:.1f}" '
            f'height="{share:.1f}" fill="#8a94a4"/></g>'
        )
    bottom = top + side
    marks = "".join(
        f'<text x="{left + side * at / 100:.0f}" y="{bottom + 18}" text-anchor="middle">{at}%</text>'
        f'<text x="{left - 6}" y="{bottom - side * at / 100 + 4:.0f}" text-anchor="end">{at}%</text>'
        for at in (0, 50, 100)
    )
    drawing = (
        f'<svg viewBox="0 0 {left + side + 20} {bottom + 28 + low + 6}" style="width:{left + side + 20}px;'
        f'max-width:100%" role="img" aria-label="Reliability diagram">{"".join(bars)}'
        f'<path class="axis" d="M{left} {top}v{side}h{side}"/>'
        f'<path class="mark" d="M{left} {bottom}L{left + side} {top}"/>{marks}</svg>'
    )
    return (
        "<p>Pixels sorted by the probability of the class predicted there. Blue: the share that is right; where the "
        "bars are below the dashed line, the net is surer than it is right. Gray: how many pixels. Expected "
        f"calibration error {percent(found['ece'])}.</p>{drawing}"
    )
