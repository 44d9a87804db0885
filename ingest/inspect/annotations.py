"""Annotation files that hold shapes: which form, where, and the categories they name."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ingest.errors import UserError
from ingest.forms import registry, vector
from ingest.forms.annotated import IMAGES, names_of
from ingest.forms.form import Form
from ingest.inspect.families import Family
from ingest.sources.archives import Source
from ingest.sources.trees import Tree
from ingest.spec.peek import spread

_SUFFIXES = (".json", ".xml", ".txt", ".geojson", ".gpkg", ".shp")
_LOOKED_AT = 100  # files of a folder whose form is asked for
_FEW = 6  # files for many images: named one by one
_PARSED = 500  # files, and records of each, that are read for their categories


@dataclass
class Annotations:
    """The files of one form."""

    form: Form
    folders: dict[str, list[str]]  # folder -> files
    categories: list[str] = field(default_factory=list)
    attribute: str = ""  # of features on a map: which one names the class
    broken: str = ""  # why the first unreadable file is that
    doubts: list[str] = field(default_factory=list)
    images: set[str] = field(default_factory=set)  # file names or stems that the annotations are of

    def cover(self, images: Sequence[str]) -> bool:
        """Whether any of these images is annotated; where an unannotated one shows background alone, all are."""
        if self.form.blank or self.form.on_the_map:
            return True
        return any({os.path.basename(name).lower(), _stem(name).lower()} & self.images for name in images)

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
        few = [name for names in chosen.values() for name in names]
        if self.form.split is not None and len(few) <= _FEW:  # others beside them may be something else
            return few[0] if len(few) == 1 else "{" + ",".join(few) + "}"
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
    found = Annotations(registry.get(best), by_form[best])
    if found.form.split is not None:
        found.folders = {folder: _not_twice(tree, found, names) for folder, names in found.folders.items()}
    else:
        _with_broken(tree, found, folders)
        found.images = {os.path.basename(found.form.image_of(name)).lower() for name in found.files}
    _read_categories(tree, found)
    return found


def _with_broken(tree: Tree, found: Annotations, folders: Mapping[str, Sequence[str]]) -> None:
    """Adds files that begin like none of the form but lie beside such and go by an image's name: they are broken.

    Left out, they would not be told of, and where a missing file means background their images would be that.
    """
    if found.form.masks or found.form.on_the_map:
        return
    images = {os.path.basename(name).lower() for name in tree.names if name.lower().endswith(IMAGES)}
    images |= {os.path.splitext(name)[0] for name in images}
    for folder, mine in found.folders.items():
        known, suffixes = set(mine), {os.path.splitext(name)[1] for name in mine}
        found.folders[folder] = [
            name
            for name in folders[folder]
            if name in known
            or (os.path.splitext(name)[1] in suffixes and os.path.basename(found.form.image_of(name)).lower() in images)
        ]


def _not_twice(tree: Tree, found: Annotations, names: Sequence[str]) -> list[str]:
    """A folder's files for many images without those whose images another one has as well: the one with most stays."""
    images: dict[str, set[str]] = {}
    for name in names:
        source = tree.source(name)
        try:
            assert found.form.split is not None
            images[name] = {record.image for record in found.form.split(source.read(), name, None)}
        except UserError:  # told when categories are read, or when it is ingested
            images[name] = set()
    found.images |= {name for mine in images.values() for image in mine for name in names_of(image)}
    taken: list[str] = []
    for name in sorted(names, key=lambda one: (-len(images[one]), one)):
        same = next((one for one in taken if len(images[one] & images[name]) > len(images[name]) / 2), None)
        if same is None:
            taken.append(name)
        else:
            found.doubts.append(f"{name} annotates the same images as {same}, which is taken: choose with `files`")
    return sorted(taken)


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
        form = registry.recognize(name, tree.source(name).read()[: registry.HEAD])
    except UserError:
        return None
    return None if form is None or form.masks else form.name


def _read_categories(tree: Tree, found: Annotations) -> None:
    """What the form lists, and what the objects of a sample of the files name."""
    sources = [tree.source(name) for name in found.files]
    if found.form.on_the_map:
        found.attribute, found.categories = vector.survey(sources)
        return
    listed: dict[str, object] = {}
    try:
        if found.form.categories is not None:
            listed = dict(found.form.categories(tree, sources))
    except UserError as error:
        found.broken = str(error)
    numbers = found.form.names_in is not None  # in place of names
    without_area = 0
    for source in spread(sources, _PARSED):
        try:
            for data, name in _records(found.form, source):
                shapes = found.form.parse(data, name).shapes
                without_area += sum(bool(shape.missing) for shape in shapes)
                listed |= dict.fromkeys(shape.category for shape in shapes if not shape.missing and not numbers)
        except UserError as error:
            found.broken = found.broken or str(error)
    found.categories = list(listed)
    if without_area:
        found.doubts.append(
            f"objects of no area (boxes, points or lines), {without_area:,} in what was read: `omit` their categories"
        )


def _records(form: Form, source: Source) -> list[tuple[bytes, str]]:
    """What is parsed of a file: the whole, or a sample of its records of one image each."""
    data = source.read()
    if form.split is None:
        return [(data, source.name)]
    cut = form.split(data, source.name, None)
    return [(record.data, f"{source.name}: {record.image}") for record in spread(cut, _PARSED)]


def _stem(name: str) -> str:
    return os.path.splitext(os.path.basename(name))[0]
