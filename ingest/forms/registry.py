"""Which label forms there are, by name, and which one a file is written in."""

from __future__ import annotations

from importlib import import_module

from ingest.errors import UserError, nearest
from ingest.forms.form import Form

# Modules of this folder that hold a FORM, in the order in which they are asked whether a file is theirs.
MODULES = (
    "labelmap",
    "coco_json",
    "labelme",
    "yolo_seg",
    "cvat_xml",
    "label_studio",
    "via_json",
    "cityscapes_polygons",
    "supervisely",
    "vector",
)
HEAD = 1 << 16  # bytes of a file that are enough to recognize it


def all_forms() -> dict[str, Form]:
    """Name -> form, of every module in `MODULES`."""
    found = (import_module(f"ingest.forms.{module}").FORM for module in MODULES)
    return {form.name: form for form in found}


def get(name: str) -> Form:
    """The form of that name; UserError lists the others."""
    forms = all_forms()
    if name not in forms:
        raise UserError(f"no label form {name!r}{nearest(name, forms)}")
    return forms[name]


def recognize(name: str, head: bytes) -> Form | None:
    """The form that a file is written in, from its name and first 64 KiB; None for other files."""
    return next((form for form in all_forms().values() if form.looks_like(name, head)), None)
