"""The report's best and worst images: image | label | prediction | error, cut from their strips."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

from PIL import Image

from ingest.shards import pictures
from train.report.classes import data_uri, swatch
from train.report.run import IMAGES, RunRecord
from train.report.text import percent

_LOWEST = 3  # classes named below an image


def images(run: RunRecord) -> str:
    """Two groups of images under a legend of the classes that they show."""
    groups = []
    for kind, heading in (("best", "Best images"), ("worst", "Worst images")):
        figures = [_figure(run, entry) for entry in run.images if entry["kind"] == kind]
        if figures:
            groups.append(f"<h3>{heading}</h3>{''.join(figures)}")
    if not groups:
        return "<p>The run kept no images.</p>"
    return (
        "<p>By their own mIoU: the mean IoU over the classes in their label or prediction. "
        f"Errors: {_patch(pictures.WRONG)}wrong, {_patch(pictures.RIGHT)}right (dark), "
        f"{_patch(pictures.IGNORED)}ignored.</p>"
        f"{_legend(run)}{''.join(groups)}"
    )


def _patch(color: Sequence[int]) -> str:
    return '<i class="swatch" style="background:#{:02x}{:02x}{:02x}"></i>'.format(*color)


def _legend(run: RunRecord) -> str:
    """The entries of the pictures' legends: of many classes those that the images show, and how many they do not."""
    shown = {name for entry in run.images for name in entry.get("iou", {})}
    names = list(run.palette)
    entries = pictures.class_entries(names, [run.palette[name] for name in names], [name in shown for name in names])
    chips = [f"<span>{swatch(run, entry.text)}{escape(entry.text)}</span>" for entry in entries]
    return f'<p class="chips">{"".join(chips)}</p>'


def _figure(run: RunRecord, entry: dict[str, Any]) -> str:
    key, miou = escape(str(entry["key"])), percent(float(entry["miou"]))
    lowest = sorted(entry.get("iou", {}).items(), key=lambda pair: (pair[1], pair[0]))[:_LOWEST]
    words = ", ".join(f"{escape(name)} {percent(iou)}" for name, iou in lowest)
    caption = f"<b>{key}</b> mIoU {miou}" + (f'<span class="lowest">lowest: {words}</span>' if words else "")
    try:
        panels = _panels(run, entry)
    except (OSError, ValueError, TypeError, OverflowError) as error:
        panels = f"<p>Its picture could not be read ({escape(type(error).__name__)}).</p>"
    return f'<figure class="sample"><figcaption>{caption}</figcaption><div class="panels">{panels}</div></figure>'


def _panels(run: RunRecord, entry: dict[str, Any]) -> str:
    """The pictures of a strip. Photographs go in as JPEG, flat colors as PNG: each is the smaller one for its kind."""
    cells = []
    with Image.open(run.folder / IMAGES / str(entry["picture"])) as strip:
        for title, left, width in entry["columns"]:
            panel = strip.convert("RGB").crop((left, 0, left + width, strip.height))
            uri = data_uri(panel, "JPEG" if title == "image" else "PNG")
            said = escape(f"{title} of {entry['key']}")
            cells.append(
                f'<div><img src="{uri}" width="{panel.width}" height="{panel.height}" alt="{said}">'
                f"<small>{escape(str(title))}</small></div>"
            )
    return "".join(cells)
