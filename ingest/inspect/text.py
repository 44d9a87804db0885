"""A drafted spec as text, commented for who edits it."""

from __future__ import annotations

import json
import re

from ingest.inspect.findings import Draft, Split
from ingest.pixels.labels import Color


def text(made: Draft) -> str:
    """YAML. Names are quoted where they are more than a word."""
    held = made.meaning
    lines = ["# Drafted by `python -m ingest inspect`: look it through. docs/ingest.md explains the keys."]
    lines += [f"# ? {_comment(doubt)}" for doubt in made.doubts]
    lines += ["", f"name: {word(made.name)}", "", "# In the order of their train ids, 0 first.", "classes:"]
    lines += [f"  - {word(name)}" for name in held.classes]
    if held.palette:
        lines += ["", "# A color a class, for pictures only.", "palette:"]
        lines += [
            f"  - {_rgb(color)} # {_comment(name)}" for color, name in zip(held.palette, held.classes, strict=True)
        ]
    if held.ids:
        lines += ["", "# What the masks hold: value -> class. 255 is ignored, unless it stands here.", "ids:"]
        lines += [f"  {value}: {word(name)}" for value, name in held.ids.items()]
    if held.colors:
        lines += ["", "# The colors of the masks.", "colors:"]
        lines += [f"  {word(name)}: {_rgb(color)}" for name, color in held.colors.items()]
    if held.tolerance:
        lines += [
            "# A color this near to a class's counts as that class; others are ignored.",
            f"tolerance: {held.tolerance}",
        ]
    if held.ignore:
        lines += ["", "# Values that count nowhere.", f"ignore: {held.ignore}"]
    if made.bands:
        lines += ["", "# Which bands become channels, 1 first.", f"bands: {made.bands}"]
    if made.deep:
        lines += [
            "# What becomes 0..255, a band: measured. Or say it yourself: `range: [low, high]`.",
            "percentiles: [2, 98]",
        ]
    if made.form:
        lines += [
            "",
            "# Annotation files. `map: {category: class}` renames, `ignore: [...]`, `omit: [...]` leave out.",
            f"labels: {made.form}",
        ]
    lines += ["", *_splits(made)]
    return "\n".join(lines) + "\n"


def _splits(made: Draft) -> list[str]:
    lines = ["# Globs below SRC; wildcards that stand for the same text pair an image with its label."]
    shares = []
    if made.whole is not None:
        lines += [f"images: {json.dumps(made.whole.images)}"]
        lines += [f"labels: {json.dumps(made.whole.labels)}"] if made.whole.labels else []
        shares = ["  train: 0.8 # shares of these images", "  val: 0.2", "  seed: 0"]
        shares += [f"  group: {json.dumps(made.group)} # what it finds in a name stays together"] if made.group else []
    return [
        *lines,
        "splits:",
        *shares,
        *(f"  {split.name}: {_split(split, made.whole is not None)}" for split in made.splits),
    ]


def _split(split: Split, beside_shares: bool) -> str:
    """`beside_shares`: the globs at the top would be taken for what is not said here."""
    without = ["labels"] if beside_shares or split.alone else []
    parts = {"images": split.images, "labels": split.labels, "list": split.list}
    told = {key: value for key, value in parts.items() if value is not None or key in without}
    return "{ " + ", ".join(f"{key}: {json.dumps(value)}" for key, value in told.items()) + " }"


def word(name: str) -> str:
    """A name as YAML reads it back."""
    return name if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_ -]*(?<! )", name) else json.dumps(name, ensure_ascii=False)


def _rgb(color: Color) -> str:
    return f"[{color[0]}, {color[1]}, {color[2]}]"


def _comment(line: str) -> str:
    return " ".join(line.split())
