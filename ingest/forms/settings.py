"""The `labels` section of a spec: which form, where its files are, and how its categories become classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

from ingest.errors import UserError, nearest
from ingest.forms import registry
from ingest.forms.form import Form
from ingest.pixels.polygons import Rules
from ingest.shards.manifest import IGNORE

KEYS = ("form", "files", "map", "ignore", "omit", "others", "background", "attribute", "names", "masks")
_BACKGROUND = ("background", "_background_", "__background__")  # LabelMe writes the second


@dataclass(frozen=True)
class LabelSpec:
    """`labels`, checked."""

    form: Form
    files: str | None  # glob of annotation files; a split may name its own
    rules: Rules
    attribute: str | None  # VIA, Label Studio: which of several attributes names the class
    names: str | tuple[str, ...]  # YOLO: the file that names the numbers, or the names; empty: look for the file
    path: str  # the spec's, for messages


def check(raw: Any, classes: Sequence[str], path: str) -> LabelSpec:
    """Reads the section. Raises UserError naming the key at fault."""
    if not isinstance(raw, dict) or "form" not in raw:
        example = "labels: {form: coco, files: annotations.json}"
        raise UserError(f"{path}: 'labels' must name a form, as in `{example}`{nearest('', registry.all_forms())}")
    for key in raw:
        if key not in KEYS:
            raise UserError(f"{path}: labels has an unknown key {key!r}{nearest(str(key), KEYS)}")
    others = raw.get("others", "")
    if others not in ("", "omit", "ignore"):
        raise UserError(f"{path}: labels: others: {others!r} must be omit or ignore (left out: an error)")
    if str(raw["form"]) not in (known := registry.all_forms()):
        raise UserError(f"{path}: labels: no label form {str(raw['form'])!r}{nearest(str(raw['form']), known)}")
    form = registry.get(str(raw["form"]))
    if form.on_the_map and not raw.get("attribute"):
        raise UserError(f"{path}: labels: say which attribute of the features names the class, with `attribute: NAME`")
    if raw.get("attribute") and form.split is None and not form.on_the_map:
        raise UserError(f"{path}: labels: attribute: {form.title} has none: leave it out")
    if raw.get("masks") and not form.masks:
        raise UserError(f"{path}: labels: masks: {form.title} holds shapes, not the colors of masks: leave it out")
    if raw.get("files") is None and form.masks:
        raise UserError(f"{path}: labels: files: say where the {form.title} is")
    outside = _background(raw, classes, path)
    ids = _ids(raw, classes, path)
    for name in _BACKGROUND:
        ids.setdefault(name, outside)
    ids.setdefault("__ignore__", IGNORE)  # LabelMe's word
    omit = tuple(sorted(set(_names(raw, "omit", path))))
    if both := [name for name in omit if name in ids]:
        raise UserError(f"{path}: labels: omit: {both[0]!r} is a class or mapped, too: drop it from one of them")
    names = raw.get("names") or ""
    return LabelSpec(
        form,
        None if raw.get("files") is None else str(raw["files"]),
        Rules(ids, outside, omit, cast(Literal["", "omit", "ignore"], others)),
        None if raw.get("attribute") is None else str(raw["attribute"]),
        tuple(map(str, names)) if isinstance(names, list | tuple) else str(names),
        path,
    )


def glob(raw: Mapping[str, Any]) -> str | None:
    """What finds the labels of splits that do not name theirs: annotation files, or the masks that a file explains."""
    found = raw.get("masks" if raw.get("form") == "labelmap" else "files")
    return None if found is None else str(found)


def background(classes: Sequence[str]) -> int:
    """The train id of the class that goes by that name; 255 where there is none."""
    return next((index for index, name in enumerate(classes) if name.lower() in _BACKGROUND), IGNORE)


def _background(raw: Mapping[str, Any], classes: Sequence[str], path: str) -> int:
    """The train id of what no shape covers: what `background` says, else the class of that name, else ignored."""
    given = raw.get("background")
    if given is None:
        return background(classes)
    if given == "ignore":
        return IGNORE
    if str(given) not in classes:
        raise UserError(f"{path}: labels: background: no class {given!r}{nearest(str(given), [*classes, 'ignore'])}")
    return list(classes).index(str(given))


def _ids(raw: Mapping[str, Any], classes: Sequence[str], path: str) -> dict[str, int]:
    """Category -> train id."""
    ids = {name: index for index, name in enumerate(classes)}
    mapped = raw.get("map") or {}
    if not isinstance(mapped, dict):
        raise UserError(f"{path}: labels: map must be a mapping of categories to classes, as in {{truck: vehicle}}")
    for name, target in mapped.items():
        if str(target) not in classes and target != "ignore":
            raise UserError(
                f"{path}: labels: map: {name}: no class {target!r}{nearest(str(target), [*classes, 'ignore'])}"
            )
        ids["" if name is None else str(name)] = IGNORE if target == "ignore" else list(classes).index(str(target))
    for name in _names(raw, "ignore", path):
        if name in ids and ids[name] != IGNORE:
            raise UserError(f"{path}: labels: ignore: {name!r} is a class or mapped, too: drop it from one of them")
        ids[name] = IGNORE
    return ids


def _names(raw: Mapping[str, Any], key: str, path: str) -> list[str]:
    given = raw.get(key) or []
    if isinstance(given, dict):
        raise UserError(f"{path}: labels: {key} must be a list of categories, not {given!r}")
    return [str(name) for name in (given if isinstance(given, list) else [given])]
