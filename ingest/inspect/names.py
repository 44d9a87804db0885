"""Class names that lie beside the data: class_dict.csv, labelmap.txt, names.json, label_list.mat..."""

from __future__ import annotations

import csv
import io
import json
import os
import re
from dataclasses import dataclass

from ingest.errors import UserError
from ingest.forms import registry
from ingest.pixels.labels import Color
from ingest.pixels.matfile import cells_of_text
from ingest.sources.trees import Tree

_FILES = re.compile(r"(?:.*[_\-.])?(?:class(?:es)?|labels?(?:map)?|codes|names|categories|obj)(?:[_\-.].*)?", re.I)
_LARGE = 1 << 20


@dataclass(frozen=True)
class Names:
    """Class names in their order, with their colors where the file has them."""

    file: str
    names: list[str]
    colors: list[Color] | None = None
    values: list[int] | None = None  # where the file numbers them itself


def find(tree: Tree) -> list[Names]:
    """Files of class names, those with colors first."""
    found = []
    for name in tree.names:
        stem, ext = os.path.splitext(os.path.basename(name))
        if ext.lower() not in (".csv", ".txt", ".names", ".json", ".mat") or not _FILES.fullmatch(stem):
            continue
        try:
            source = tree.source(name)
            read = _read(tree, name, ext.lower()) if source.size < _LARGE else None
        except (UserError, ValueError, csv.Error):
            continue
        if read is not None and 2 <= len(read.names) < 255 and len(set(read.names)) == len(read.names):
            found.append(read)
    return sorted(found, key=lambda names: (names.colors is None, names.values is None))


def _read(tree: Tree, name: str, ext: str) -> Names | None:
    if ext == ".mat":
        cells = cells_of_text(tree.source(name).read(), name)
        return Names(name, cells) if cells else None
    text = tree.source(name).read().decode("utf-8-sig")
    if ext == ".json":
        return _json(name, text)
    if ext == ".csv":
        return _table(name, text)
    form = registry.recognize(name, text.encode()[: registry.HEAD])
    if form is not None and form.masks and form.categories is not None:
        held = form.categories(tree, [tree.source(name)])
        colors = [color for color in held.values() if color is not None]
        return Names(name, list(held), colors if len(colors) == len(held) else None)
    return _lines(name, text)


def _json(name: str, text: str) -> Names | None:
    held = json.loads(text)
    if isinstance(held, dict) and held and all(str(key).isdigit() and isinstance(v, str) for key, v in held.items()):
        values = sorted(int(key) for key in held)
        return Names(name, [held[str(value)] for value in values], None, values)
    if isinstance(held, dict) and held and all(isinstance(value, int) for value in held.values()):
        ordered = sorted(held.items(), key=lambda item: item[1])
        return Names(name, [str(key) for key, _ in ordered], None, [int(value) for _, value in ordered])
    if isinstance(held, list) and held and all(isinstance(one, str) for one in held):
        return Names(name, held)
    return None


def _table(name: str, text: str) -> Names | None:
    """name, r, g, b; or value, name."""
    rows = [[cell.strip() for cell in row] for row in csv.reader(io.StringIO(text)) if row]
    named, colors = [], []
    numbered = [row for row in rows if len(row) == 2 and row[0].isdecimal() and row[1]]
    if numbered and len(numbered) >= len(rows) - 1:  # Roboflow's _classes.csv: `Pixel Value, Class`
        return Names(name, [row[1] for row in numbered], None, [int(row[0]) for row in numbered])
    for row in rows:
        numbers = [cell for cell in row if re.fullmatch(r"\d{1,3}", cell) and int(cell) < 256]
        words = [cell for cell in row if not re.fullmatch(r"\d+", cell) and cell]
        if len(numbers) >= 3 and words:
            named.append(words[0])
            colors.append((int(numbers[-3]), int(numbers[-2]), int(numbers[-1])))
    return Names(name, named, colors) if len(named) >= len(rows) - 1 and len(set(colors)) == len(colors) else None


def _lines(name: str, text: str) -> Names | None:
    """A name a line, numbered or not."""
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    if any(len(line) > 60 or "/" in line or not line.isprintable() for line in lines):
        return None
    numbered = [re.fullmatch(r"(\d+)\s*[:,;=\t ]\s*(.*\D.*)", line) for line in lines]
    if lines and all(numbered):
        return Names(name, [hit[2].strip() for hit in numbered if hit], None, [int(hit[1]) for hit in numbered if hit])
    if any(re.fullmatch(r"[\d\s.,]+", line) for line in lines):
        return None
    return Names(name, lines)
