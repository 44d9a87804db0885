"""Recipe files: found, read, overridden by `key=value`, and turned into checked dataclasses.

Nothing here knows a section. A caller names the dataclass that it wants; a mistake is one line with the dotted key, the
value and what was expected.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Sequence
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import TypeAdapter, ValidationError

from ingest.errors import UserError, nearest

Section = TypeVar("Section")


def folders() -> list[Path]:
    """Folders of shipped recipes: `recipes/` of every package named in the entry points `segrail.recipes`.

    An entry point, so that this package need not know which of those that build on it ship recipes.
    """
    specs = [find_spec(entry.value) for entry in entry_points(group="segrail.recipes")]
    return sorted({Path(spec.origin).parent / "recipes" for spec in specs if spec is not None and spec.origin})


def shipped(where: Sequence[Path] | None = None) -> list[str]:
    """Names of the recipes in these folders (None: `folders()`)."""
    return sorted(path.stem for folder in (folders() if where is None else where) for path in folder.glob("*.yaml"))


def read(recipe: str, where: Sequence[Path] | None = None) -> dict[str, Any]:
    """A recipe file, or by name one in these folders (None: `folders()`), as nested plain values.

    UserError where there is none, or no YAML.
    """
    where = folders() if where is None else where
    path = Path(recipe)
    if not path.suffix and not path.exists():
        found = [folder / f"{recipe}.yaml" for folder in where if (folder / f"{recipe}.yaml").is_file()]
        if not found:
            raise UserError(
                f"no recipe file and no shipped recipe is called {recipe!r}{nearest(recipe, shipped(where))}"
            )
        path = found[0]
    try:
        raw = yaml.safe_load(path.read_text())
    except FileNotFoundError as error:
        raise UserError(f"recipe {path} does not exist; shipped recipes: {', '.join(shipped(where))}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"recipe {path} is not YAML: {' '.join(str(error).split())}") from error
    except IsADirectoryError as error:
        raise UserError(f"recipe {path} is a folder: give a YAML file or a shipped recipe's name") from error
    if not isinstance(raw, dict):
        raise UserError(f"recipe {path} holds {type(raw).__name__}, expected sections such as `augment:` and `data:`")
    return raw


def apply(raw: dict[str, Any], override: str) -> None:
    """Sets one `key=value` (a dotted key, a YAML value) in a recipe's nested plain values."""
    key, equals, value = override.partition("=")
    if not equals or not key:
        raise UserError(f"override {override!r} is not key=value, such as augment.crop=[512,512]")
    *sections, last = key.split(".")
    for section in sections:
        if not isinstance(raw.setdefault(section, {}), dict):
            raise UserError(f"override {override!r}: {section!r} is not a section")
        raw = raw[section]
    try:
        raw[last] = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise UserError(f"override {override!r}: the value is not YAML") from error


def validated(kind: type[Section], raw: dict[str, Any]) -> Section:
    """The dataclass `kind`, whose sections are dataclasses too, from nested plain values. UserError names the key."""
    refuse_unknown(raw, kind)
    try:
        return TypeAdapter(kind).validate_python(raw)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        if isinstance(cause := first.get("ctx", {}).get("error"), UserError):
            raise cause from None
        *path, part = first["loc"]
        if first["type"] == "missing" and isinstance(part, int):
            raise UserError(f"{'.'.join(map(str, path))} = {first['input']!r}: expected {part + 1} values") from None
        key = ".".join(map(str, first["loc"]))
        raise UserError(f"{key} = {first['input']!r}: {_plain(first['msg'])}") from None


def refuse_unknown(raw: dict[str, Any], kind: type, path: tuple[str, ...] = (), root: type | None = None) -> None:
    """UserError for the first key, at any depth, that the dataclass has no field for. root: where hints are sought."""
    root = root or kind
    known = {field.name: field for field in dataclasses.fields(kind)}
    for key, value in raw.items():
        dotted = ".".join((*path, str(key)))
        if key not in known:
            given = "" if isinstance(value, dict) else f" = {value!r}"
            raise UserError(f"unknown key {dotted!r}{given}{_nearest_key(str(key), path, list(known), root)}")
        if (section := _section(known[key])) is not None:
            if not isinstance(value, dict):
                names = ", ".join(field.name for field in dataclasses.fields(section))
                raise UserError(f"{dotted} = {value!r}: expected a section with {names}")
            refuse_unknown(value, section, (*path, str(key)), root)


def dotted_keys(kind: type, path: tuple[str, ...] = ()) -> list[str]:
    """Every key of the dataclass and its sections, such as `augment.crop`."""
    keys = []
    for field in dataclasses.fields(kind):
        section = _section(field)
        keys += dotted_keys(section, (*path, field.name)) if section else [".".join((*path, field.name))]
    return keys


def _section(field: dataclasses.Field) -> type | None:
    """The dataclass that the field's section is made of; None for a plain value."""
    section = field.default_factory
    return section if isinstance(section, type) and dataclasses.is_dataclass(section) else None


def _nearest_key(key: str, path: tuple[str, ...], known: list[str], root: type) -> str:
    """Ends the message: the nearest key of its section, or one of its name in another, with its whole path."""
    here = [".".join((*path, name)) for name in known]
    elsewhere = [dotted for dotted in dotted_keys(root) if dotted.rpartition(".")[2] == key]
    close = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    meant = [".".join((*path, close[0]))] if close else elsewhere
    hint = f"; did you mean {' or '.join(map(repr, meant))}?" if meant else "."
    return f"{hint} Choices: {', '.join(here)}"


def _plain(message: str) -> str:
    """pydantic's message in the words of the other errors."""
    message = re.sub(
        r"\w+ should have at (?:most|least) (\d+) items? after validation, not (\d+)", r"\2 items", message
    )
    return message.replace("Input should be", "expected").replace("Value error, ", "")
