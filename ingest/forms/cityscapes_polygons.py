"""Cityscapes' own polygons (`*_gtFine_polygons.json`): one file an image, later objects on earlier ones."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ingest.forms.form import Form, load_json, reading, ring
from ingest.pixels.polygons import Drawing, Shape

_TITLE = "Cityscapes polygons json"
_NAME = re.compile(r"_(?:gtFine|gtCoarse)_polygons\.json$|_polygons\.json$|\.json$")


def looks_like(name: str, head: bytes) -> bool:
    """A json object with `imgHeight`."""
    return name.lower().endswith(".json") and re.search(rb'"img(Height|Width)"\s*:', head) is not None


def parse(data: bytes, name: str) -> Drawing:
    """The objects of one image; deleted ones are no more."""
    held = load_json(data, name, _TITLE)
    with reading(name, "the file", _TITLE):
        hw = int(held["imgHeight"]), int(held["imgWidth"])
        objects = [(number, one) for number, one in enumerate(held["objects"], 1) if not one.get("deleted")]
        return Drawing(tuple(_shape(one, number, name) for number, one in objects), hw)


def _shape(one: Mapping[str, Any], number: int, name: str) -> Shape:
    where = f"object {number}"
    with reading(name, where, _TITLE):
        return Shape(where, str(one["label"]), (ring(one["polygon"]),))


def image_of(name: str) -> str:
    """`aachen_000000_000019_gtFine_polygons.json` is of `aachen_000000_000019_leftImg8bit`."""
    stem = _NAME.sub("", name)
    return f"{stem}_leftImg8bit" if re.search(r"_gt(?:Fine|Coarse)_polygons\.json$", name) else stem


FORM = Form("cityscapes", _TITLE, looks_like, parse, image_of=image_of, upright=False)
