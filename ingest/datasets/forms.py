"""Label forms: annotation files that hold shapes instead of pixels (COCO json, LabelMe json, ...).

One module a form, `ingest/datasets/<form>.py`, each with a constant `FORM`; `MODULES` below names them. In a spec:

    labels: {form: coco, files: "annotations/train.json"}     # `files` is a glob, relative to SRC

`ingest folder` pairs `Annotated.labels` with the images; a worker draws each label when it converts the sample.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib import import_module

from ingest.errors import UserError, nearest
from ingest.pixels.labels import DrawnLabel
from ingest.shards.manifest import Skipped
from ingest.sources.archives import Source
from ingest.sources.trees import Tree

# Modules of this folder that hold a FORM, in the order in which they are asked whether a file is theirs.
MODULES: tuple[str, ...] = ()


@dataclass(frozen=True)
class Request:
    """What a form's reader is given."""

    tree: Tree
    files: Sequence[Source]  # the annotation files that the spec's glob matched
    targets: dict[str, int] | None  # category name -> train id (255: ignore); None: only look, draw nothing
    background: int = 255  # train id of the pixels outside of all shapes
    skip_bad: bool = False  # broken annotations are listed in `skipped` instead of raised as UserError


@dataclass(frozen=True)
class Annotated:
    """What a form's reader found."""

    names: list[str]  # all category names, in the form's own order
    labels: dict[str, DrawnLabel] = field(default_factory=dict)  # image as the annotation names it -> its label
    notes: list[str] = field(default_factory=list)  # said once to the user, such as how overlaps are drawn
    skipped: list[Skipped] = field(default_factory=list)


@dataclass(frozen=True)
class Form:
    """A label form."""

    name: str  # as in a spec: `form: coco`
    title: str  # for people: "COCO json"
    looks_like: Callable[[str, bytes], bool]  # (file name, its first 64 KiB) -> is it one of these?
    read: Callable[[Request], Annotated]


def all_forms() -> dict[str, Form]:
    """Name -> form, of every module in `MODULES`."""
    found = (import_module(f"ingest.datasets.{module}").FORM for module in MODULES)
    return {form.name: form for form in found}


def get(name: str) -> Form:
    """The form of that name; UserError lists the others."""
    forms = all_forms()
    if name not in forms:
        raise UserError(f"no label form {name!r}{nearest(name, forms)}")
    return forms[name]


def recognise(name: str, head: bytes) -> Form | None:
    """The form that a file is written in, from its name and first 64 KiB; None for other files."""
    return next((form for form in all_forms().values() if form.looks_like(name, head)), None)
