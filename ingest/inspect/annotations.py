"""Annotation files that hold shapes: which form, where, and the categories they name."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from ingest.datasets import annotated, forms, vector
from ingest.datasets.forms import Form
from ingest.datasets.peek import spread
from ingest.errors import UserError
from ingest.inspect.families import Family
from ingest.sources.trees import Tree

_SUFFIXES = (".json", ".xml", ".txt", ".geojson", ".gpkg", ".shp")
_LOOKED_AT = 100  # files of a folder whose form is asked for
_PARSED = 500  # files that are read for their categories


@dataclass
class Annotations:
    """The files of one form."""

    form: Form
    folders: dict[str, list[str]]  # folder -> files
    categories: list[str] = field(default_factory=list)
    attribute: str = ""  # of features on a map: which one names the class
    broken: str = ""  # why the first unreadable file is that
    doubts: list[str] = field(default_factory=list)

    @property
    def files(self) -> list[str]:
        return [name for names in self.folders.values() for name in names]

    def glob(self, split: str | None) -> str:
        """A glob for a split's files: of its own folder or file, where there is one, or of all."""
        mine = {
            folder: [name for name in names if split and Family(f"{folder}/{_stem(name)}", "", "").split == split]
            for folder, names in self.folders.items()
        }
        chosen = {folder: names for folder, names in mine.items() if names} or self.folders
        if len(chosen) > 1:
            exts = {os.path.splitext(name)[1] for names in chosen.values() for name in names}
            root = os.path.commonpath(list(chosen)) if all(chosen) else ""
            return (f"{root}/" if root else "") + "**/*" + (exts.pop() if len(exts) == 1 else "")
        folder, names = next(iter(chosen.items()))
        if len(names) == 1:
            return names[0]
        return (f"{folder}/" if folder else "") + "*" + os.path.splitext(names[0])[1]


def find(tree: Tree) -> Annotations | None:
    """The annotation files of the form that most files are of; None where there are none."""
    folders: defaultdict[str, list[str]] = defaultdict(list)
    for name in tree.names:
        if name.lower().endswith(_SUFFIXES):
            folders[os.path.dirname(name)].append(name)
    by_form: defaultdict[str, dict[str, list[str]]] = defaultdict(dict)
    weight: Counter[str] = Counter()
    for folder, names in folders.items():
        for form_name, mine in _forms_of(tree, names).items():
            by_form[form_name][folder] = mine
            weight[form_name] += sum(min(tree.source(name).size, 10_000) for name in mine[:_LOOKED_AT])
    if not by_form:
        return None
    best = weight.most_common(1)[0][0]
    found = Annotations(forms.get(best), by_form[best])
    _read_categories(tree, found)
    return found


def _forms_of(tree: Tree, names: Sequence[str]) -> dict[str, list[str]]:
    """Form -> the files of a folder that are of it; in a folder of thousands a sample decides for its extension."""
    looked = {name: _form(tree, name) for name in spread(names, _LOOKED_AT)}
    found: defaultdict[str, list[str]] = defaultdict(list)
    for name in names:
        form = looked.get(name)
        if name not in looked:
            alike = Counter(one for other, one in looked.items() if one and other[-4:] == name[-4:])
            form = alike.most_common(1)[0][0] if alike else None
        if form is not None:
            found[form].append(name)
    return found


def _form(tree: Tree, name: str) -> str | None:
    try:
        form = forms.recognise(name, tree.source(name).read()[: forms.HEAD])
    except UserError:
        return None
    return None if form is None or form.masks else form.name


def _read_categories(tree: Tree, found: Annotations) -> None:
    """What the files name, commonest objects or not; those without a single object come from the form's own list."""
    sources = [tree.source(name) for name in found.files]
    if found.form.on_the_map:
        found.attribute, found.categories = vector.survey(sources)
        return
    try:
        held = annotated.survey(tree, found.form, spread(sources, _PARSED))
    except UserError as error:
        found.broken = str(error)
        return
    found.categories = list(held.categories)
    if held.broken:
        found.broken = f"{len(held.broken)} of them, the first: {held.broken[0].reason}"
    if held.without_area:
        found.doubts.append(f"{held.without_area} objects are boxes, points or lines, which cover no area: `omit` them")


def _stem(name: str) -> str:
    return os.path.splitext(os.path.basename(name))[0]
