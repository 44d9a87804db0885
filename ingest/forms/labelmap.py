"""`labelmap.txt`, that CVAT writes beside color masks: a line a class, `name:r,g,b:parts:actions`."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

from ingest.errors import UserError
from ingest.forms.form import Form
from ingest.pixels.colors import Color
from ingest.pixels.polygons import Drawing, Rules
from ingest.sources.archives import Source
from ingest.sources.trees import Tree

_TITLE = "labelmap.txt"
_LINE = re.compile(r"([^:]*):\s*(\d+)\s*,\s*(\d+)\s*,\s*(\d+)\s*(?::.*)?")


def looks_like(name: str, head: bytes) -> bool:
    """By its name, and a line of a name and a color."""
    lines = [line for line in head.decode("utf-8", "replace").splitlines() if line.strip() and line[0] != "#"]
    return os.path.basename(name).lower() == "labelmap.txt" and bool(lines) and bool(_LINE.fullmatch(lines[0].strip()))


def read(data: bytes, name: str) -> dict[str, Color]:
    """Class -> color. UserError names the line that is none."""
    found: dict[str, Color] = {}
    for number, line in enumerate(data.decode("utf-8-sig", "replace").splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        hit = _LINE.fullmatch(line.strip())
        color = (int(hit[2]), int(hit[3]), int(hit[4])) if hit else (256, 0, 0)
        if not hit or max(color) > 255:
            raise UserError(f"{name}, line {number}: {line.strip()[:80]!r} is no `name:red,green,blue::`: mend it")
        if hit[1] in found or color in found.values():
            raise UserError(f"{name}, line {number}: {hit[1]!r} or its color is there already: drop one of them")
        found[hit[1]] = color
    if not found:
        raise UserError(f"{name} lists no classes: a line is `name:red,green,blue::`")
    return found


def colors(source: Source, rules: Rules) -> dict[Color, int]:
    """Color -> train id, by the spec's classes. UserError on a class of the file that the spec says nothing of."""
    found: dict[Color, int] = {}
    for name, color in read(source.read(), source.name).items():
        try:
            target = rules.target(name)
        except KeyError as error:
            raise UserError(
                f"{source.name} has the class {name!r}, which is not listed: add it to `classes`, or under `labels` "
                f"map it to one (`map: {{{name!r}: CLASS}}`) or ignore it"
            ) from error
        found[color] = rules.background if target is None else target
    return found


def categories(tree: Tree, files: Sequence[Source]) -> dict[str, Color | None]:
    """Its classes with their colors."""
    return {name: color for source in files for name, color in read(source.read(), source.name).items()}


def _no_shapes(data: bytes, name: str) -> Drawing:
    raise UserError(f"{name} names the colors of masks, it holds no shapes: give the masks as `labels` of the splits")


FORM = Form("labelmap", _TITLE, looks_like, _no_shapes, categories=categories, masks=True)
