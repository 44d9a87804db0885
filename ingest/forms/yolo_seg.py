"""YOLO segmentation txt: one file an image, a line an object: class number, then x y ... as shares of the image."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

import yaml

from ingest.errors import UserError
from ingest.forms.form import Form, reading, ring
from ingest.pixels.colors import Color
from ingest.pixels.polygons import Drawing, Shape
from ingest.shards.wording import count
from ingest.sources.archives import Source
from ingest.sources.trees import Tree

_TITLE = "YOLO segmentation txt"
_LINE = re.compile(rb"\d+(?:[ \t]+-?\d*\.?\d+(?:[eE][-+]?\d+)?){6,}[ \t]*")
_NAMES = ("classes.txt", "obj.names", "labels.txt", "_darknet.labels")  # a name a line


def looks_like(name: str, head: bytes) -> bool:
    """A .txt whose first line is a whole number and at least six more."""
    lines = [line for line in head.splitlines() if line.strip()]
    return name.lower().endswith(".txt") and bool(lines) and _LINE.fullmatch(lines[0].strip()) is not None


def parse(data: bytes, name: str) -> Drawing:
    """The objects of one image; an empty file is an image without any."""
    shapes = []
    for number, line in enumerate(data.decode("utf-8", "replace").splitlines(), 1):
        words = line.split()
        if not words:
            continue
        with reading(name, f"line {number}", _TITLE):
            category = str(int(words[0])) if words[0].isdecimal() else words[0]
            if len(words) == 5:
                shapes.append(Shape(f"line {number}", category, missing="is a box (5 numbers)"))
                continue
            if len(words) % 2 == 0 or len(words) < 7:
                raise ValueError(f"{count(len(words), 'number')}: a class, then x y for each of three or more points")
            points = ring([[float(x), float(y)] for x, y in zip(words[1::2], words[2::2], strict=True)])
            if not abs(points).max() <= 2:  # nor a number
                raise ValueError("coordinates are not shares of the image, 0 to 1")
            shapes.append(Shape(f"line {number}", category, (points,)))
    return Drawing(tuple(shapes), relative=True)


def categories(tree: Tree, files: Sequence[Source]) -> dict[str, Color | None]:
    """The names, by number, of the first YAML file with `names`, or of a list of names. UserError where none is."""
    for name in sorted(tree.names, key=lambda name: (name.count("/"), name)):
        if name.lower().endswith((".yaml", ".yml")) and (found := from_yaml(tree.text(name), name)):
            return dict.fromkeys(found)
    for wanted in _NAMES:
        for name in tree.names:
            if os.path.basename(name) == wanted:
                return dict.fromkeys(_lines(tree.text(name)))
    raise UserError(
        f"{tree.root} has no data.yaml with `names`, nor {', '.join(_NAMES)}: give `names: [first, second, ...]` "
        "under `labels` in the spec"
    )


def names_in(source: Source) -> list[str]:
    """The names, by number, of a data.yaml or of a file with one a line. UserError where it has none."""
    text = source.read().decode("utf-8", "replace")
    yaml_file = source.name.lower().endswith((".yaml", ".yml"))
    found = from_yaml(text, source.name) if yaml_file else _lines(text)
    if not found:
        raise UserError(f"{source.name} lists no names: a data.yaml has `names`, a .txt file one a line")
    return found


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip()]


def from_yaml(text: str, name: str) -> list[str]:
    """`names` of a data.yaml, a list or {number: name}; empty where it has none."""
    try:
        held = yaml.safe_load(text)
    except Exception:  # any YAML file may lie beside the data: one that breaks is not this one
        return []
    names = held.get("names") if isinstance(held, dict) else None
    if isinstance(names, dict) and names:
        if sorted(names) != list(range(len(names))):
            raise UserError(f"{name}: names: the numbers must go from 0 to {len(names) - 1} without a gap")
        names = [names[number] for number in range(len(names))]
    # names alone: a list of lists that refer to each other can fill the memory when it is written out
    plain = isinstance(names, list) and all(isinstance(one, str | int | float) for one in names)
    return [str(one) for one in names] if plain and names else []


FORM = Form(
    "yolo", _TITLE, looks_like, parse, categories=categories, smaller_on_top=True, names_in=names_in, blank=True
)
