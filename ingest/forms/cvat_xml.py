"""CVAT's "CVAT for images" xml: one file for many images; polygons, boxes, ellipses and masks by their z_order."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any
from xml.etree.ElementTree import Element, ParseError, tostring

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from ingest.errors import UserError
from ingest.forms.form import Form, Record, reading, ring
from ingest.pixels.bitmasks import from_counts
from ingest.pixels.colors import Color
from ingest.pixels.polygons import Bitmap, Drawing, Ring, Shape, ellipse, rectangle
from ingest.sources.archives import Source
from ingest.sources.trees import Tree

_TITLE = "CVAT xml"
_OTHER = ("polyline", "points", "cuboid", "skeleton")  # without an area of their own


def looks_like(name: str, head: bytes) -> bool:
    """An xml file whose root is `annotations` with a version, a meta block or images."""
    root = re.search(rb"<annotations>\s*(?:<version>|<meta>|<image\b)", head)
    return name.lower().endswith(".xml") and root is not None


def split(data: bytes, name: str, attribute: str | None) -> list[Record]:
    """A record an image: its element."""
    root = _xml(data, name)
    with reading(name, "the file", _TITLE):
        if root.find("track") is not None:
            raise UserError(f'{name} holds tracks of a video: export the task as "CVAT for images 1.1"')
        return [Record(image.attrib["name"], tostring(image)) for image in root.iter("image")]


def parse(data: bytes, name: str) -> Drawing:
    """The shapes of one image, by z_order and then as they stand."""
    image = _xml(data, name)
    with reading(name, "the image", _TITLE):
        hw = int(image.attrib["height"]), int(image.attrib["width"])
    found: list[tuple[int, Shape]] = []
    for number, one in enumerate(image, 1):
        where = f"shape {number}, a {one.tag},"
        if one.tag == "tag":
            continue
        with reading(name, where, _TITLE):
            found.append((int(one.attrib.get("z_order", 0)), _shape(one, where)))
    return Drawing(tuple(shape for _, shape in sorted(found, key=lambda pair: pair[0])), hw)


def _shape(one: Element, where: str) -> Shape:
    held, category = one.attrib, one.attrib["label"]
    if one.tag == "mask":
        counts = [int(run) for run in held["rle"].split(",")]
        pixels = from_counts(counts, int(held["height"]), int(held["width"]), by_column=False)
        return Shape(where, category, bitmap=Bitmap(pixels, int(held["left"]), int(held["top"])))
    if one.tag in _OTHER:
        return Shape(where, category, missing="covers no area")
    return Shape(where, category, (_outline(one),))


def _outline(one: Element) -> Ring:
    held: dict[str, Any] = one.attrib
    turn = float(held.get("rotation", 0))
    if one.tag == "polygon":
        return ring([[float(value) for value in point.split(",")] for point in held["points"].split(";")])
    if one.tag == "box":
        left, top, right, bottom = (float(held[key]) for key in ("xtl", "ytl", "xbr", "ybr"))
        return rectangle(left, top, right, bottom, turn)
    if one.tag == "ellipse":
        x, y, rx, ry = (float(held[key]) for key in ("cx", "cy", "rx", "ry"))
        return ellipse(x, y, rx, ry, turn)
    raise ValueError(f"no shape goes by <{one.tag}>")


def categories(tree: Tree, files: Sequence[Source]) -> dict[str, Color | None]:
    """The task's labels, with their colors."""
    found: dict[str, Color | None] = {}
    for source in files:
        root = _xml(source.read(), source.name)
        for label in root.iter("label"):
            if name := label.findtext("name"):
                found[name] = _color(label.findtext("color") or "")
    return found


def _color(text: str) -> Color | None:
    """`#2080c0` as (red, green, blue)."""
    hit = re.fullmatch(r"#([0-9a-fA-F]{2})([0-9a-fA-F]{2})([0-9a-fA-F]{2})", text.strip())
    return (int(hit[1], 16), int(hit[2], 16), int(hit[3], 16)) if hit else None


def _xml(data: bytes, name: str) -> Element:
    """Parsed without entities: a file of a kilobyte can hold ones that fill the memory, or that name other files."""
    try:
        root: Element = fromstring(data)
    except DefusedXmlException as error:
        raise UserError(f"{name} declares xml entities, which annotations need not: do not use this file") from error
    except (ParseError, ValueError, LookupError, RecursionError) as error:
        raise UserError(f"{name} is broken xml ({error}): export it again as {_TITLE}") from error
    return root


FORM = Form("cvat", _TITLE, looks_like, parse, split, categories=categories)
