"""Supervisely json: one file an image (`ann/x.jpg.json` of `img/x.jpg`); polygons with holes, bitmaps, rectangles."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

from ingest.forms.form import Form, load_json, reading, ring
from ingest.pixels.bitmasks import from_base64_png
from ingest.pixels.colors import Color
from ingest.pixels.polygons import Bitmap, Drawing, Shape, rectangle
from ingest.sources.archives import Source
from ingest.sources.trees import Tree

_TITLE = "Supervisely json"
_META = "meta.json"  # of the project: its classes


def looks_like(name: str, head: bytes) -> bool:
    """A json object with a size and objects, which Cityscapes' has not."""
    signs = (rb'"objects"\s*:\s*\[', rb'"size"\s*:\s*\{')
    return name.lower().endswith(".json") and (
        all(re.search(sign, head) for sign in signs) or re.search(rb'"classTitle"\s*:', head) is not None
    )


def parse(data: bytes, name: str) -> Drawing:
    """The objects of one image, later ones on earlier ones."""
    held = load_json(data, name, _TITLE)
    with reading(name, "the file", _TITLE):
        hw = int(held["size"]["height"]), int(held["size"]["width"])
        return Drawing(tuple(_shape(one, number, name) for number, one in enumerate(held["objects"], 1)), hw)


def _shape(one: Mapping[str, Any], number: int, name: str) -> Shape:
    where = f"object {one.get('id', number)}"
    with reading(name, where, _TITLE):
        category = str(one["classTitle"])
        kind = one.get("geometryType") or ("bitmap" if one.get("bitmap") else "polygon")
        if kind == "bitmap":
            left, top = one["bitmap"]["origin"]
            pixels = from_base64_png(one["bitmap"]["data"], name, where, packed=True)
            return Shape(where, category, bitmap=Bitmap(pixels, int(left), int(top)))
        if kind not in ("polygon", "rectangle"):
            return Shape(where, category, missing=f"is a {kind}, which covers no area")
        exterior = ring(one["points"]["exterior"])
        if kind == "rectangle":
            (x0, y0), (x1, y1) = exterior
            return Shape(where, category, (rectangle(x0, y0, x1, y1),))
        return Shape(where, category, (exterior,), tuple(ring(hole) for hole in one["points"].get("interior") or ()))


def categories(tree: Tree, files: Sequence[Source]) -> dict[str, Color | None]:
    """The project's classes with their colors, where its meta.json is there."""
    found: dict[str, Color | None] = {}
    for file in tree.names:
        if os.path.basename(file) == _META:
            held = load_json(tree.source(file).read(), file, "Supervisely's meta.json")
            with reading(file, "`classes`", "Supervisely's meta.json"):
                found |= {str(one["title"]): _color(str(one.get("color", ""))) for one in held["classes"]}
    return found


def _color(text: str) -> Color | None:
    hit = re.fullmatch(r"#?([0-9a-fA-F]{6})", text.strip())
    if not hit:
        return None
    code = int(hit[1], 16)
    return code >> 16, code >> 8 & 255, code & 255


FORM = Form("supervisely", _TITLE, looks_like, parse, categories=categories)
