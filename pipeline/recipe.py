"""Recipe files: found, read, overridden by `key=value`, and turned into checked dataclasses.

Nothing here knows a section. A caller names the dataclass that it wants; a mistake is one line with the dotted key, the
value and what was expected.
"""

from __future__ import annotations

import dataclasses
import difflib
import errno
import re
from collections.abc import Sequence
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import TypeAdapter, ValidationError

from ingest.errors import UserError, brief, message, nearest

Section = TypeVar("Section")

LONGEST = 4096  # characters of a text, as of a path on Linux
DEEPEST = 8  # levels of lists and sections


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
    try:
        if not path.suffix and not path.exists():
            found = [folder / f"{recipe}.yaml" for folder in where if (folder / f"{recipe}.yaml").is_file()]
            if not found:
                raise UserError(
                    f"no recipe file and no shipped recipe is called {brief(recipe)}{nearest(recipe, shipped(where))}"
                )
            path = found[0]
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise UserError(f"recipe {path} does not exist; shipped recipes: {', '.join(shipped(where))}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"recipe {path} is not YAML: {message(error)}") from error
    except IsADirectoryError as error:
        raise UserError(f"recipe {path} is a folder: give a YAML file or a shipped recipe's name") from error
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        raise UserError(f"recipe {brief(recipe)}: no file can have so long a name") from error
    raw = parsed(text, f"recipe {path} is not YAML")
    if not isinstance(raw, dict):
        raise UserError(f"recipe {path} holds {type(raw).__name__}, expected sections such as `augment:` and `data:`")
    return raw


def parsed(text: str, what: str) -> Any:
    """YAML text as plain values. UserError, beginning with `what`, for anything the loader trips over.

    It raises more than YAML errors: ValueError and KeyError for tags that do not fit (`!!int x`, `!!bool z`) or 5,000
    digits, RecursionError for thousands of brackets in each other.
    """
    try:
        return yaml.safe_load(text)
    except RecursionError as error:
        raise UserError(f"{what}: too many brackets in each other") from error
    except Exception as error:
        reason = message(error).partition(";")[0]
        raise UserError(f"{what}: {reason if len(reason) <= 400 else reason[:400] + ' ...'}") from error


def apply(raw: dict[str, Any], override: str) -> None:
    """Sets one `key=value` (a dotted key, a YAML value) in a recipe's nested plain values."""
    key, equals, value = override.partition("=")
    if not equals or not key:
        raise UserError(f"override {brief(override)} is not key=value, such as augment.crop=[512,512]")
    *sections, last = key.split(".")
    for section in sections:
        if not isinstance(raw.setdefault(section, {}), dict):
            raise UserError(f"override {brief(override)}: {brief(section)} is not a section")
        raw = raw[section]
    raw[last] = parsed(value, f"override {brief(override)}: the value is not YAML")


def validated(kind: type[Section], raw: dict[str, Any]) -> Section:
    """The dataclass `kind`, whose sections are dataclasses too, from nested plain values. UserError names the key."""
    refuse_unknown(raw, kind)
    _refuse_odd(raw)
    try:
        return TypeAdapter(kind).validate_python(raw)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        if isinstance(cause := first.get("ctx", {}).get("error"), UserError):
            raise cause from None
        raise UserError(_explained(kind, raw, first)) from None


def _explained(kind: type, raw: dict[str, Any], error: Any) -> str:
    """pydantic's error as one line: key, value, what was expected."""
    *path, part = error["loc"]
    if error["type"] == "missing" and isinstance(part, int):
        return f"{'.'.join(map(str, path))} = {brief(error['input'])}: expected {part + 1} values"
    key, value, field = _blamed(kind, raw, error["loc"])
    if field is not None and "expected" in field.metadata:
        return f"{key} = {brief(value)}: expected {field.metadata['expected']}"
    if error["type"] == "tuple_type" and isinstance(value, int | float):
        return f"{key} = {brief(value)}: expected two values, such as [{value}, {value}]"
    return f"{key} = {brief(error['input'])}: {_plain(error['msg'])}"


def _blamed(kind: type, raw: Any, loc: tuple[Any, ...]) -> tuple[str, Any, dataclasses.Field | None]:
    """The key, its value and its field that a location of pydantic's lies in. The location goes on where a type has
    choices (`loss.class_weights.str`); the key ends with the field, or with an item of its list or a name of its own.
    """
    names: list[str] = []
    section: type | None = kind
    field = None
    for part in loc:
        if section is None:
            break
        field = {field.name: field for field in dataclasses.fields(section)}.get(str(part))
        if field is None:
            break
        names.append(str(part))
        raw, section = (raw.get(part) if isinstance(raw, dict) else raw), _section(field)
    # Of a list the item, of names with values the name; what else follows is one of the type's choices.
    value, items = raw, []
    for part in loc[len(names) :]:
        if isinstance(part, int) or (isinstance(value, dict) and part in value):
            items.append(str(part))
    return ".".join([*names, *items]), raw, field


def _refuse_odd(raw: dict[str, Any]) -> None:
    """UserError for a value that no setting can be: a text of more than LONGEST characters or with a null character
    (no system takes such a path), or lists and sections deeper than DEEPEST, also by holding themselves.
    """
    # YAML's aliases let one list stand in many places: each is looked at once, or a small file would take for ever.
    seen: set[int] = set()

    def look(value: Any, path: tuple[str, ...], above: tuple[int, ...]) -> None:
        key = ".".join(path)
        if isinstance(value, str) and (len(value) > LONGEST or "\0" in value):
            raise UserError(f"{key} = {brief(value)}: expected at most {LONGEST} characters, none of them null")
        if not isinstance(value, dict | list):
            return
        if len(above) > DEEPEST or id(value) in above:
            raise UserError(f"{key}: lists and sections in each other, more than {DEEPEST} levels deep")
        if id(value) in seen:
            return
        seen.add(id(value))
        for name, each in value.items() if isinstance(value, dict) else enumerate(value):
            look(each, (*path, str(name)), (*above, id(value)))

    look(raw, (), ())


def refuse_unknown(raw: dict[str, Any], kind: type, path: tuple[str, ...] = (), root: type | None = None) -> None:
    """UserError for the first key, at any depth, that the dataclass has no field for. root: where hints are sought."""
    root = root or kind
    known = {field.name: field for field in dataclasses.fields(kind)}
    for key, value in raw.items():
        dotted = ".".join((*path, str(key)))
        if key not in known:
            given = "" if isinstance(value, dict) else f" = {brief(value)}"
            raise UserError(f"unknown key {brief(dotted)}{given}{_nearest_key(str(key), path, list(known), root)}")
        if (section := _section(known[key])) is not None:
            if not isinstance(value, dict):
                names = ", ".join(field.name for field in dataclasses.fields(section))
                raise UserError(f"{dotted} = {brief(value)}: expected a section with {names}")
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
    close = difflib.get_close_matches(key[:200], known, n=1, cutoff=0.5)
    meant = [".".join((*path, close[0]))] if close else elsewhere
    hint = f"; did you mean {' or '.join(map(repr, meant))}?" if meant else "."
    return f"{hint} Choices: {', '.join(here)}"


def _plain(message: str) -> str:
    """pydantic's message in the words of the other errors."""
    message = re.sub(
        r"\w+ should have at (?:most|least) (\d+) items? after validation, not (\d+)", r"\2 items", message
    )
    message = re.sub(r"Unable to parse input string as an integer.*", "expected a smaller whole number", message)
    message = message.replace("a valid dictionary", "names with values, such as {name: value}")
    return message.replace("Input should be", "expected").replace("Value error, ", "")
