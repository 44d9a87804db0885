"""COCO json: one file for many images; polygons and run lengths, smaller objects on larger ones, crowds ignored."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from ingest.errors import UserError
from ingest.forms.form import Form, Record, load_json, reading, ring
from ingest.pixels.bitmasks import from_coco
from ingest.pixels.colors import Color
from ingest.pixels.polygons import Bitmap, Drawing, Shape
from ingest.sources.archives import Source
from ingest.sources.trees import Tree

_TITLE = "COCO json"


def looks_like(name: str, head: bytes) -> bool:
    """A json object with images and the annotations of them, in any order."""
    keys = (rb'"file_name"\s*:', rb'"image_id"\s*:', rb'"category_id"\s*:', rb'"supercategory"\s*:')
    listed = re.search(rb'"(images|annotations|categories)"\s*:\s*\[', head) is not None
    return name.lower().endswith(".json") and listed and any(re.search(key, head) for key in keys)


def split(data: bytes, name: str, attribute: str | None) -> list[Record]:
    """A record an image, also for images without an object. UserError where annotations, images, categories differ."""
    held = load_json(data, name, _TITLE)
    with reading(name, "the file", _TITLE):
        if "segments_info" in str(held["annotations"][:1]):
            raise UserError(f"{name} is COCO's panoptic json: ingest its PNG masks, or its instances_*.json")
        categories = {one["id"]: str(one["name"]) for one in held["categories"]}
        images = {one["id"]: one for one in held["images"]}
        objects: defaultdict[Any, list[dict[str, Any]]] = defaultdict(list)
        for one in held["annotations"]:
            where = f"annotation {one.get('id')}"
            if one["image_id"] not in images:
                raise UserError(
                    f"{name}: {where} is of image {one['image_id']!r}, which `images` lacks: mend or remove it"
                )
            if one["category_id"] not in categories:
                raise UserError(
                    f"{name}: {where} has category_id {one['category_id']}, which `categories` lacks: add it there"
                )
            objects[one["image_id"]].append(_kept(one, categories[one["category_id"]]))
        return [
            Record(
                str(image["file_name"]),
                json.dumps([image.get("height"), image.get("width"), objects[key]]).encode(),
            )
            for key, image in images.items()
        ]


def _kept(one: Mapping[str, Any], category: str) -> dict[str, Any]:
    """What drawing needs: a file may hold much else."""
    return {
        "id": one.get("id"),
        "category": category,
        "segmentation": one.get("segmentation"),
        "iscrowd": one.get("iscrowd", 0),
    }


def parse(data: bytes, name: str) -> Drawing:
    """The objects of one image."""
    height, width, objects = json.loads(data)
    with reading(name, "the image's size", _TITLE):
        hw = None if height is None or width is None else (int(height), int(width))
    return Drawing(tuple(_shape(one, name) for one in objects), hw)


def _shape(one: Mapping[str, Any], name: str) -> Shape:
    where, category, crowd = f"annotation {one['id']}", one["category"], bool(one["iscrowd"])
    with reading(name, where, _TITLE):
        held = one["segmentation"]
        if isinstance(held, dict):
            height, width = held["size"]
            return Shape(
                where, category, bitmap=Bitmap(from_coco(held["counts"], int(height), int(width))), crowd=crowd
            )
        if not held:
            return Shape(where, category, missing="is a box without an outline", crowd=crowd)
        return Shape(where, category, tuple(_outline(flat) for flat in held), crowd=crowd)


def _outline(flat: Sequence[float]) -> Any:
    """[x, y, x, y, ...] as points."""
    if len(flat) % 2:
        raise ValueError(f"an outline of {len(flat)} numbers")
    return ring([flat[at : at + 2] for at in range(0, len(flat), 2)])


def categories(tree: Tree, files: Sequence[Source]) -> dict[str, Color | None]:
    """`categories` of all files, by their ids."""
    found: dict[str, Color | None] = {}
    for source in files:
        held = load_json(source.read(), source.name, _TITLE)
        with reading(source.name, "`categories`", _TITLE):
            for one in sorted(held["categories"], key=lambda one: one["id"]):
                found[str(one["name"])] = None
    return found


FORM = Form("coco", _TITLE, looks_like, parse, split, categories=categories, smaller_on_top=True, upright=False)
