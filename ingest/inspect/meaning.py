"""What masks mean: their values or colors as classes, with names where a file beside has them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from ingest.inspect.names import Names
from ingest.inspect.samples import Look, look
from ingest.pixels.labels import Color
from ingest.shards.manifest import IGNORE
from ingest.shards.wording import count
from ingest.sources.trees import Tree
from ingest.spec.peek import spread

_MASKS = 200  # that are read
_TRACE = 0.002  # of the pixels: rarer colors are edges, where masks have soft edges
_NEAR = 48.0  # colors closer than this to a commoner one are its edges


@dataclass
class Meaning:
    """What goes into the spec of the masks."""

    classes: list[str]
    ids: dict[int, str] | None = None  # None: value n is class n
    colors: dict[str, Color] | None = None
    ignore: list[int] = field(default_factory=list)
    tolerance: int = 0
    palette: list[Color] | None = None
    notes: list[str] = field(default_factory=list)
    doubts: list[str] = field(default_factory=list)


def meaning(tree: Tree, masks: Sequence[str], names: Sequence[Names]) -> Meaning:
    """Reads a sample of the masks and concludes."""
    looks = [seen for name in spread(masks, _MASKS) if (seen := look(tree.source(name))) is not None]
    of = f"{len(looks)} of {len(masks)} masks read"
    kinds = Counter(seen.kind for seen in looks)
    kind = kinds.most_common(1)[0][0]
    if kind == "soft" or (kinds["soft"] and kind == "index"):
        return _soft(of)
    if kind == "color" or (kinds["color"] and kind == "index" and kinds["index"] < len(looks) / 2):
        return _colors([seen for seen in looks if seen.kind == "color"], names, of)
    indexed = [seen for seen in looks if seen.kind == "index"]
    if painted := _painted(indexed, names):
        return _colors(painted, names, of)
    return _values(indexed, names, of)


def _painted(looks: Sequence[Look], names: Sequence[Names]) -> list[Look]:
    """Palette images as masks of colors, where the colors mean more than the indices: else none.

    That is where a table names those colors, or where equal colors have other indices in other masks.
    """
    if not all(len(seen.palette) > max(seen.values) for seen in looks):
        return []
    painted = [
        Look("color", {}, {_code(seen.palette[value]): count for value, count in seen.values.items()}) for seen in looks
    ]
    used = Counter(code for seen in painted for code in seen.colors)
    tables = [one.colors for one in names if one.colors is not None and _covers(one.colors, used, False)]
    meanings = {(value, seen.palette[value]) for seen in looks for value in seen.values}
    shifted = len(meanings) > len({value for value, _ in meanings})
    return painted if len(used) > 1 and (tables or shifted) else []


def _soft(of: str) -> Meaning:
    found = Meaning(["background", "object"], colors={"background": (0, 0, 0), "object": (255, 255, 255)})
    found.tolerance = 150
    found.notes.append(
        f"masks are black and white with soft edges ({of}): levels near black or white count, others not"
    )
    found.doubts.append("is white the object, and what is its name?")
    return found


def _values(looks: Sequence[Look], names: Sequence[Names], of: str) -> Meaning:
    pixels: Counter[int] = Counter()
    for seen in looks:
        pixels.update(seen.values)
    held = sorted(pixels)
    total = sum(pixels.values())
    listed = ", ".join(f"{value} ({_percent(pixels[value] / total)})" for value in held[:12])
    told = f"masks hold values ({of}): {listed}" + (f" and {len(held) - 12} more" if len(held) > 12 else "")
    if held == [0, IGNORE]:
        found = Meaning(["background", "object"], {0: "background", IGNORE: "object"})
        found.doubts.append("0 and 255 alone are taken as two classes: what is the second one's name?")
    else:
        found = _many(held, names)
    found.notes.insert(0, told)
    found.palette = _palette(looks, found)
    return found


def _many(held: Sequence[int], names: Sequence[Names]) -> Meaning:
    rest = [value for value in held if value != IGNORE]
    if not rest:
        return Meaning(
            ["class_0", "class_1"], doubts=["the masks read hold 255 alone, which is ignored: are they empty?"]
        )
    top = rest[-1]
    for one in names:
        found = _named(one, rest, top)
        if found is not None:
            found.notes.append(f"class names: {one.file}")
            return found
    two = rest in ([0, 1], [0])
    if two:
        found = Meaning(["background", "object"])
    elif top < 2 * len(rest) + 8:
        found = Meaning([f"class_{value}" for value in range(top + 1)])
    else:
        found = Meaning([f"class_{value}" for value in rest], {value: f"class_{value}" for value in rest})
    found.doubts.append("no file names the classes: give them their names in `classes`" + _elsewhere(found))
    if 0 not in held and not found.ids:
        found.doubts.append(
            f"no mask that was read holds 0: is {found.classes[0]} a class? Else drop it, and number the rest in `ids`"
        )
    if IGNORE in held:
        found.notes.append("255 is ignored, as everywhere")
    return found


def _elsewhere(found: Meaning) -> str:
    return " and in `ids`" if found.ids else ""


def _named(one: Names, rest: Sequence[int], top: int) -> Meaning | None:
    """Names that fit the values: numbered, from 0 on, or from 1 on with 0 for no label."""
    if one.values is not None and set(rest) <= set(one.values):
        if one.values == list(range(len(one.values))):
            return Meaning(list(one.names))
        return Meaning(list(one.names), dict(zip(one.values, one.names, strict=True)))
    if one.values is not None:
        return None
    if top < len(one.names):
        return Meaning(list(one.names))
    if top == len(one.names):
        found = Meaning(list(one.names), dict(enumerate(one.names, 1)), ignore=[0])
        found.doubts.append("values begin at 1, and 0 is taken for no label, to be ignored: is it a class?")
        return found
    return None


def _palette(looks: Sequence[Look], found: Meaning) -> list[Color] | None:
    """Of palette images, where it tells all classes apart."""
    values = list(found.ids) if found.ids else list(range(len(found.classes)))
    palette = max((seen.palette for seen in looks), key=len, default=())
    if len(palette) <= max(values):
        return None
    chosen = [palette[value] for value in values]
    return chosen if len(set(chosen)) == len(chosen) else None


def _colors(looks: Sequence[Look], names: Sequence[Names], of: str) -> Meaning:
    pixels: Counter[int] = Counter()
    for seen in looks:
        pixels.update(seen.colors)
    total = sum(pixels.values())
    rare = sum(count < _TRACE * total for count in pixels.values())
    soft = not all(seen.exact for seen in looks) or len(pixels) > 64 or (rare > 8 and rare > len(pixels) / 2)
    for one in names:
        if one.colors is not None and _covers(one.colors, pixels, soft):
            found = Meaning(list(one.names), colors=dict(zip(one.names, one.colors, strict=True)))
            found.notes.append(f"class names and colors: {one.file}")
            break
    else:
        kept = _distinct(pixels, total) if soft else [code for code, _ in pixels.most_common()]
        kept.sort(key=lambda code: (code != 0, -pixels[code]))
        labels = ["background" if code == 0 else f"color_{code:06x}" for code in kept]
        found = Meaning(labels, colors={name: _rgb(code) for name, code in zip(labels, kept, strict=True)})
        found.doubts.append("no file names the colors: give the classes their names in `classes` and in `colors`")
        if 0 in kept:
            found.doubts.append("black is taken for a class, `background`: move it to `ignore` if it means no label")
    known = found.colors or {}
    stray = {code for code in pixels if _rgb(code) not in known.values()}
    if soft:
        found.tolerance = 40
        found.notes.append("colors between those of classes: soft or JPEG edges; `tolerance: 40` takes the nearest")
    elif 0 in stray:
        known["ignore"] = (0, 0, 0)
        found.notes.append("black has no name in that file: ignored")
    found.palette = [known[name] for name in found.classes]
    most = ", ".join(f"{_rgb(code)} ({_percent(count / total)})" for code, count in pixels.most_common(6))
    found.notes.insert(0, f"masks hold {count(len(pixels), 'color')} ({of}), most of all {most}")
    return found


def _covers(colors: Sequence[Color], pixels: Counter[int], soft: bool) -> bool:
    """Whether named colors explain the masks: all of them but black, or nine tenths where edges are soft."""
    known = {_code(color) for color in colors}
    if soft:
        near = sum(count for code, count in pixels.items() if _distance(code, known) <= 40)
        return near > 0.8 * sum(pixels.values())
    return set(pixels) <= known | {0}


def _distinct(pixels: Counter[int], total: int) -> list[int]:
    """Of colors with soft edges those that are classes: common, far from commoner ones, and between no two of them."""
    kept: list[int] = []
    for code, held in pixels.most_common():
        if held < _TRACE * total:
            break
        if _distance(code, kept) > _NEAR and not any(
            _between(code, one, other) for number, one in enumerate(kept) for other in kept[:number]
        ):
            kept.append(code)
    return kept


def _between(code: int, one: int, other: int) -> bool:
    """Whether a color is a mixture of two others, about."""
    a, b, c = (np.array(_rgb(value), float) for value in (one, other, code))
    along = float(np.clip((c - a) @ (b - a) / ((b - a) @ (b - a)), 0, 1))
    return bool(np.linalg.norm(a + along * (b - a) - c) < _NEAR)


def _distance(code: int, others: Sequence[int] | set[int]) -> float:
    red, green, blue = _rgb(code)
    return min(
        (((red - r) ** 2 + (green - g) ** 2 + (blue - b) ** 2) ** 0.5 for r, g, b in map(_rgb, others)), default=1e9
    )


def _code(color: Color) -> int:
    return (color[0] << 16) | (color[1] << 8) | color[2]


def _rgb(code: int) -> Color:
    return code >> 16, code >> 8 & 255, code & 255


def _percent(share: float) -> str:
    return "<0.1%" if share < 0.001 else f"{100 * share:.1f}%"
