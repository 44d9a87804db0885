"""What a spec says of its masks: values or colors to classes, directly or by another dataset's class names."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from ingest.errors import UserError, brief, nearest
from ingest.pixels.labels import Color, LabelMap
from ingest.shards.manifest import IGNORE
from ingest.shards.wording import count

KEYS = ("ids", "colors", "ignore", "tolerance", "variable", "from", "names", "others")
_FARTHEST = 442  # from black to white
Other = Callable[[str], tuple[list[str], LabelMap]]  # another spec's name or path -> its classes, its values


def check(raw: dict[str, Any], classes: Sequence[str], path: str, other: Other) -> LabelMap:
    """The label map of a spec. UserError naming the key at fault."""
    found = _from(raw, classes, path, other) if "from" in raw else _own(raw, classes, path)
    tolerance, variable = raw.get("tolerance", 0), raw.get("variable")
    if type(tolerance) not in (int, float) or not 0 <= tolerance <= _FARTHEST:
        raise UserError(f"{path}: 'tolerance' must be a number of 0..{_FARTHEST} (RGB values), not {brief(tolerance)}")
    if tolerance and not found.colors:
        raise UserError(f"{path}: 'tolerance' is of colors, but there are none: give `colors`, or leave it out")
    if isinstance(variable, list | dict):
        raise UserError(f"{path}: 'variable' must name one matrix of the .mat files, not {brief(variable)}")
    return dataclasses.replace(found, tolerance=float(tolerance), variable=None if variable is None else str(variable))


def _own(raw: dict[str, Any], classes: Sequence[str], path: str) -> LabelMap:
    for key in ("names", "others"):
        if key in raw:
            raise UserError(
                f"{path}: {key!r} maps another dataset's classes: name them with `from: SPEC`, or by a list"
            )
    given, colors = raw.get("ids"), _colors(raw.get("colors") or {}, classes, path)
    ids: dict[int, int] = {}
    if given is None:
        ids = {} if colors else {index: index for index in range(len(classes))}
    elif not isinstance(given, dict):
        raise UserError(f"{path}: 'ids' must map mask values to class names, as in {{0: {classes[0]}}}")
    else:
        for number, target in given.items():
            ids[value(number, path)] = _target(target, classes, path, f"ids: {brief(number)}")
    ignore = raw.get("ignore")
    for number in ignore if isinstance(ignore, list) else [] if ignore is None else [ignore]:
        if ids.get(value(number, path), IGNORE) != IGNORE:
            raise UserError(f"{path}: the value {number} is both a class and ignored: drop it from one of them")
        ids[number] = IGNORE
    if colors and not ids:
        return LabelMap({}, colors)
    return LabelMap({IGNORE: IGNORE} | ids, colors)


def _from(raw: dict[str, Any], classes: Sequence[str], path: str, other: Other) -> LabelMap:
    """`from: camvid` or `from: [void, road, ...]`: the masks hold that dataset's classes; by name they become ours."""
    for key in ("ids", "colors", "ignore"):
        if key in raw:
            raise UserError(f"{path}: {key!r} and 'from' both say what the masks hold: keep one")
    source = raw["from"]
    if isinstance(source, list):
        theirs, held = [str(name) for name in source], LabelMap({i: i for i in range(len(source))}, {})
    else:
        theirs, held = other(str(source))
    table = _by_name(raw, theirs, classes, path)
    ids = {number: IGNORE if train == IGNORE else table[train] for number, train in held.ids.items()}
    colors = {one: IGNORE if train == IGNORE else table[train] for one, train in held.colors.items()}
    return LabelMap(({IGNORE: IGNORE} | ids) if ids else {}, colors, held.tolerance, held.variable)


def _by_name(raw: dict[str, Any], theirs: Sequence[str], classes: Sequence[str], path: str) -> list[int]:
    """Per class of the other dataset our train id. What has no class of ours must be told what to become."""
    names = raw.get("names") or {}
    if not isinstance(names, dict):
        raise UserError(f"{path}: 'names' must map the other dataset's classes to ours, as in {{pavement: road}}")
    for name in names:
        if name not in theirs:
            raise UserError(f"{path}: names: the other dataset has no class {brief(name)}{nearest(str(name), theirs)}")
    others = raw.get("others")
    default = None if others is None else _target(others, classes, path, "others")
    table: list[int] = []
    missing = []
    for name in theirs:
        if name in names:
            table.append(_target(names[name], classes, path, f"names: {name}"))
        elif name in classes:
            table.append(list(classes).index(name))
        else:
            missing.append(name)
            table.append(IGNORE if default is None else default)
    if missing and default is None:
        raise UserError(
            f"{path}: no counterpart here for {count(len(missing), 'class', 'classes')} of the other dataset "
            f"({brief(missing)[1:-1]}): "
            "map them in `names`, or all at once with `others: ignore`"
        )
    return table


def _target(name: Any, classes: Sequence[str], path: str, where: str) -> int:
    """A class's train id, or 255 for `ignore`."""
    if str(name) in classes:
        return list(classes).index(str(name))
    if str(name) == "ignore":
        return IGNORE
    raise UserError(f"{path}: {where}: no class {brief(name)}{nearest(str(name), [*classes, 'ignore'])}")


def _colors(given: Any, classes: Sequence[str], path: str) -> dict[Color, int]:
    """`colors: {road: [[128, 64, 128], ...], ignore: [0, 0, 0]}` -> {color: train id}."""
    if not isinstance(given, dict):
        raise UserError(f"{path}: 'colors' must map class names (and 'ignore') to mask colors")
    found: dict[Color, int] = {}
    for name, colors in given.items():
        target = _target(name, classes, path, "colors")
        for one in colors if isinstance(colors, list) and colors and isinstance(colors[0], list) else [colors]:
            held = color(one, path)
            if found.get(held, target) != target:
                raise UserError(f"{path}: the color {one} stands for two classes: drop it from one of them")
            found[held] = target
    return found


def color(raw: Any, path: str) -> Color:
    """`[red, green, blue]` of a spec. UserError naming it."""
    if not (isinstance(raw, list) and len(raw) == 3 and all(type(v) is int and 0 <= v <= 255 for v in raw)):
        raise UserError(f"{path}: color {brief(raw)} must be [red, green, blue], each 0..255")
    return raw[0], raw[1], raw[2]


def value(raw: Any, path: str) -> int:
    """A mask's value in a spec. UserError naming it."""
    if type(raw) is not int or not 0 <= raw <= 65535:
        raise UserError(f"{path}: mask value {brief(raw)} must be a whole number, 0..65535")
    return raw
