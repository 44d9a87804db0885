"""VIA (VGG Image Annotator) json, versions 1 and 2: one file for many images; polygons, rectangles, ellipses."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any

from ingest.errors import UserError, nearest
from ingest.forms.form import Form, Record, load_json, reading, ring
from ingest.pixels.polygons import Drawing, Ring, Shape, ellipse, rectangle

_TITLE = "VIA json"


def looks_like(name: str, head: bytes) -> bool:
    """A project, or an export of annotations: `regions` of a `filename`."""
    signs = (
        rb'"_via_img_metadata"',
        rb'"shape_attributes"',
        rb'"filename"\s*:[^{}\[\]]*"size"\s*:[^{}\[\]]*"regions"\s*:',
    )
    return name.lower().endswith(".json") and any(re.search(sign, head) for sign in signs)


def split(data: bytes, name: str, attribute: str | None) -> list[Record]:
    """A record an image. `attribute` is the region attribute that names classes, where there are several."""
    held = load_json(data, name, _TITLE)
    with reading(name, "the file", _TITLE):
        images = held.get("_via_img_metadata", held)
        found, attributes = [], set()
        for entry in images.values():
            regions = entry["regions"]
            regions = list(regions.values()) if isinstance(regions, dict) else regions
            attributes |= {key for region in regions for key in region.get("region_attributes") or {}}
            found.append((str(entry["filename"]), regions))
        if attribute is not None and attribute not in attributes:
            raise UserError(f"{name}: no region has an attribute {attribute!r}{nearest(attribute, sorted(attributes))}")
        if attribute is None and len(attributes) > 1:
            raise UserError(
                f"{name}: regions have several attributes ({', '.join(sorted(attributes))}): say which one names the "
                f"class, as in `labels: {{form: via, attribute: {min(attributes)}}}`"
            )
        key = attribute or next(iter(attributes), "")
        return [Record(image, json.dumps([key, regions]).encode()) for image, regions in found]


def parse(data: bytes, name: str) -> Drawing:
    """The regions of one image, later ones on earlier ones. VIA does not record the image's size."""
    attribute, regions = json.loads(data)
    return Drawing(tuple(_shape(one, number, attribute, name) for number, one in enumerate(regions, 1)))


def _shape(one: Mapping[str, Any], number: int, attribute: str, name: str) -> Shape:
    where = f"region {number}"
    with reading(name, where, _TITLE):
        held = one["shape_attributes"]
        category = _category((one.get("region_attributes") or {}).get(attribute, ""))
        outline = _outline(held)
        if outline is None:
            return Shape(where, category, missing=f"is a {held['name']}, which covers no area")
        return Shape(where, category, (outline,))


def _category(value: Any) -> str:
    """A text, or of a checkbox's {option: true} the one that is set."""
    if isinstance(value, dict):
        chosen = [key for key, on in value.items() if on]
        if len(chosen) > 1:
            raise ValueError(f"several classes at once: {', '.join(chosen)}")
        return chosen[0] if chosen else ""
    return str(value).strip()


def _outline(held: Mapping[str, Any]) -> Ring | None:
    """None for points and lines."""
    kind = held["name"]
    if kind == "polygon":
        return ring(list(zip(held["all_points_x"], held["all_points_y"], strict=True)))
    if kind == "rect":
        return rectangle(held["x"], held["y"], held["x"] + held["width"], held["y"] + held["height"])
    if kind == "circle":
        return ellipse(held["cx"], held["cy"], held["r"], held["r"])
    if kind == "ellipse":
        return ellipse(held["cx"], held["cy"], held["rx"], held["ry"], math.degrees(held.get("theta", 0)))
    return None


FORM = Form("via", _TITLE, looks_like, parse, split)
