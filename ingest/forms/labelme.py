"""LabelMe json: one file an image; polygons, rectangles, circles and masks, later shapes on earlier ones."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any

from ingest.forms.form import Form, load_json, reading, ring
from ingest.pixels.bitmasks import from_base64_png
from ingest.pixels.polygons import Bitmap, Drawing, Shape, ellipse, rectangle

_TITLE = "LabelMe json"


def looks_like(name: str, head: bytes) -> bool:
    """A json object with `shapes`; old versions write the picture itself first."""
    return name.lower().endswith(".json") and (
        re.search(rb'"shapes"\s*:\s*\[', head) is not None
        or (head.lstrip()[:1] == b"{" and re.search(rb'"imageData"\s*:\s*("|null)', head) is not None)
    )


def parse(data: bytes, name: str) -> Drawing:
    """The shapes of one image. A label may repeat: each shape is drawn by itself."""
    held = load_json(data, name, _TITLE)
    with reading(name, "the file", _TITLE):
        height, width = held.get("imageHeight"), held.get("imageWidth")
        shapes = tuple(_shape(one, number, name) for number, one in enumerate(held["shapes"], 1))
        return Drawing(shapes, None if height is None or width is None else (int(height), int(width)))


def _shape(one: Mapping[str, Any], number: int, name: str) -> Shape:
    where = f"shape {number}"
    with reading(name, where, _TITLE):
        category, kind, points = str(one["label"]), str(one.get("shape_type") or "polygon"), ring(one["points"])
        if kind == "polygon":
            return Shape(where, category, (points,))
        if kind == "rectangle":
            (x0, y0), (x1, y1) = points[[0, -1]] if len(points) == 2 else (points.min(0), points.max(0))
            return Shape(where, category, (rectangle(x0, y0, x1, y1),))
        if kind == "circle":  # its middle, and a point on it
            (x, y), on = points[0], points[1]
            radius = math.hypot(on[0] - x, on[1] - y)
            return Shape(where, category, (ellipse(x, y, radius, radius),))
        if kind == "mask":  # a box, and a PNG of that size
            left, top = points.min(0)
            pixels = from_base64_png(one["mask"], name, where)
            return Shape(where, category, bitmap=Bitmap(pixels, round(left), round(top)))
        return Shape(where, category, missing=f"is a {kind}, which covers no area")


def image_name(data: bytes) -> str:
    """The image that a file names, for messages."""
    return str(json.loads(data).get("imagePath", ""))


FORM = Form("labelme", _TITLE, looks_like, parse)
