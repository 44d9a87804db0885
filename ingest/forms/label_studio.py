"""Label Studio's JSON export: one file for many images; polygons, rectangles and ellipses in percent, brush masks."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from ingest.errors import UserError
from ingest.forms.form import Form, Record, load_json, reading, ring
from ingest.pixels.bitmasks import from_label_studio
from ingest.pixels.polygons import Bitmap, Drawing, Shape, ellipse, rectangle, turn

_TITLE = "Label Studio json"
_KINDS = ("polygonlabels", "rectanglelabels", "ellipselabels", "brushlabels", "keypointlabels", "labels")


def looks_like(name: str, head: bytes) -> bool:
    """A json list of tasks with annotations (`completions` in old exports)."""
    signs = (rb'"(annotations|completions)"\s*:\s*\[', rb'"(result|data|file_upload|original_width)"\s*:')
    return (
        name.lower().endswith(".json")
        and head.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] == b"["
        and all(re.search(sign, head) for sign in signs)
    )


def split(data: bytes, name: str, attribute: str | None) -> list[Record]:
    """A record a task that is annotated: of several annotations the ground truth, else the last."""
    held = load_json(data, name, _TITLE)
    found = []
    with reading(name, "the file", _TITLE):
        if not isinstance(held, list):
            raise ValueError("no list of tasks")
        for number, task in enumerate(held, 1):
            where = f"task {task.get('id', number)}"
            with reading(name, where, _TITLE):
                if "result" not in json.dumps(task) and "label" in task:
                    raise UserError(f"{name} is Label Studio's JSON-MIN, which lacks what masks need: export as JSON")
                done = [a for a in task.get("annotations") or task.get("completions") or [] if not _void(a)]
                if not done:
                    continue
                chosen = next((one for one in done if one.get("ground_truth")), done[-1])
                record = [where, [one for one in chosen["result"] if _mine(one, attribute)]]
                found.append(Record(_image(task, name, where), json.dumps(record).encode()))
    return found


def _void(annotation: Mapping[str, Any]) -> bool:
    return bool(annotation.get("was_cancelled") or annotation.get("skipped"))


def _mine(region: Mapping[str, Any], attribute: str | None) -> bool:
    """Whether a result labels pixels, by the control of that name where there are several."""
    return region.get("type") in _KINDS and (attribute is None or region.get("from_name") == attribute)


def _image(task: Mapping[str, Any], name: str, where: str) -> str:
    """A task's image: the path in its URL, or in the parameter `d` that local files are served by."""
    values = [value for value in task["data"].values() if isinstance(value, str)]
    urls = [value for value in values if re.search(r"\.(jpe?g|png|bmp|tiff?|webp|gif)\b", value, re.I)] or values[:1]
    if not urls:
        raise UserError(f"{name}: {where} names no image in its `data`: remove it")
    url = urlsplit(urls[0])
    return unquote(parse_qs(url.query).get("d", [url.path])[0])


def parse(data: bytes, name: str) -> Drawing:
    """The regions of one task, later ones on earlier ones."""
    where, regions = json.loads(data)
    shapes, sizes = [], set()
    for number, region in enumerate(regions, 1):
        at = f"region {region.get('id', number)} of {where}"
        with reading(name, at, _TITLE):
            height, width = int(region["original_height"]), int(region["original_width"])
            sizes.add((height, width))
            if region.get("image_rotation"):
                raise UserError(f"{name}: {at} was drawn on a turned view: turn the image itself, and annotate that")
            shapes.append(_shape(region, at, height, width))
    if len(sizes) > 1:
        raise UserError(f"{name}: {where} has regions of images of several sizes: annotate it again")
    return Drawing(tuple(shapes), next(iter(sizes), None))


def _shape(region: Mapping[str, Any], where: str, height: int, width: int) -> Shape:
    value, kind = region["value"], region["type"]
    named = [value[key] for key in _KINDS if value.get(key)]
    category = str(named[0][0]) if named else ""
    scale = (width / 100, height / 100)
    if value.get("format") == "rle" or kind == "brushlabels":
        return Shape(where, category, bitmap=Bitmap(from_label_studio(value["rle"], height, width)))
    if "points" in value:
        return Shape(where, category, (ring(value["points"]) * scale,))
    if kind not in ("rectanglelabels", "ellipselabels") and not {"width", "radiusX"} & set(value):
        return Shape(where, category, missing="covers no area")
    x, y = value["x"] * scale[0], value["y"] * scale[1]
    degrees = float(value.get("rotation") or 0)
    if "radiusX" in value:
        return Shape(
            where, category, (ellipse(x, y, value["radiusX"] * scale[0], value["radiusY"] * scale[1], degrees),)
        )
    corners = rectangle(x, y, x + value["width"] * scale[0], y + value["height"] * scale[1])
    return Shape(where, category, (turn(corners, x, y, degrees),))  # about its first corner


FORM = Form("label_studio", _TITLE, looks_like, parse, split)
