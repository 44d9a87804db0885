"""The part of a training recipe that decides the data stream: `seed`, `augment`, and two keys of `data`.

The whole recipe belongs to `train`, which the pipeline does not know; its other sections are left unread.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from pydantic import TypeAdapter, ValidationError

from ingest.errors import UserError, nearest
from pipeline.augment import Augment

SHIPPED = Path(__file__).parent.parent / "train" / "recipes"


@dataclass(frozen=True)
class Stream:
    """What, with the dataset, decides every batch."""

    seed: int = 0
    batch_size: int = 8
    """data.batch_size: crops per rank and step."""
    shuffle_window: int = 0
    """data.shuffle_window: shards shuffled together; 0: the whole split."""
    augment: Augment = field(default_factory=Augment)

    def __post_init__(self) -> None:
        for key, low in {"seed": 0, "batch_size": 1, "shuffle_window": 0}.items():
            value = getattr(self, key)
            if value < low:
                dotted = key if key == "seed" else f"data.{key}"
                raise UserError(f"{dotted} = {value}: expected a whole number, {low} or more")


_DATA = ("batch_size", "shuffle_window")
KEYS = ["seed", *(f"data.{key}" for key in _DATA), *(f"augment.{key.name}" for key in dataclasses.fields(Augment))]


def load(recipe: str | None, overrides: Sequence[str] = ()) -> Stream:
    """Reads a recipe file, or a shipped one by name (None: the defaults), with `key=value` overrides.

    UserError names the file and key of a mistake; also of an override that changes nothing in the stream.
    """
    raw = _read(recipe) if recipe else {}
    for override in overrides:
        key, equals, value = override.partition("=")
        if not equals or not key:
            raise UserError(f"override {override!r} is not key=value, such as augment.crop=[512,512]")
        if key not in KEYS:
            raise UserError(f"override {override!r} names nothing that the data stream depends on{nearest(key, KEYS)}")
        section, _, name = key.rpartition(".")
        target = raw.setdefault(section, {}) if section else raw
        if not isinstance(target, dict):
            raise UserError(f"override {override!r}: {section!r} is not a section")
        try:
            target[name] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise UserError(f"override {override!r}: the value is not YAML") from error
    return parse(raw)


def parse(raw: dict[str, Any]) -> Stream:
    """A checked Stream from a recipe's nested plain values. UserError names the dotted key."""
    augment, data = (_section(raw, name) for name in ("augment", "data"))
    known = [key.name for key in dataclasses.fields(Augment)]
    for key in augment:
        if key not in known:
            raise UserError(f"unknown key 'augment.{key}'{nearest(str(key), known)}")
    flat = {key: data[key] for key in _DATA if key in data}
    if "seed" in raw:
        flat["seed"] = raw["seed"]
    try:
        return TypeAdapter(Stream).validate_python({**flat, "augment": augment})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        if isinstance(cause := first.get("ctx", {}).get("error"), UserError):
            raise cause from None
        dotted = ".".join(str(part) for part in (*(["data"] if first["loc"][0] in _DATA else []), *first["loc"]))
        message = first["msg"].replace("Input should be", "expected")
        raise UserError(f"{dotted} = {first['input']!r}: {message}") from None


def _read(recipe: str) -> dict[str, Any]:
    path = Path(recipe)
    shipped = sorted(file.stem for file in SHIPPED.glob("*.yaml"))
    if not path.suffix and not path.exists():
        if recipe not in shipped:
            raise UserError(f"no recipe file and no shipped recipe is called {recipe!r}{nearest(recipe, shipped)}")
        path = SHIPPED / f"{recipe}.yaml"
    try:
        raw = yaml.safe_load(path.read_text())
    except FileNotFoundError as error:
        raise UserError(f"recipe {path} does not exist; shipped recipes: {', '.join(shipped)}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"recipe {path} is not YAML: {' '.join(str(error).split())}") from error
    except IsADirectoryError as error:
        raise UserError(f"recipe {path} is a folder: give a YAML file or a shipped recipe's name") from error
    if not isinstance(raw, dict):
        raise UserError(f"recipe {path} holds {type(raw).__name__}, expected sections such as `augment:` and `data:`")
    return raw


def _section(raw: dict[str, Any], name: str) -> dict[str, Any]:
    section = raw.get(name, {})
    if not isinstance(section, dict):
        raise UserError(f"{name} = {section!r}: expected a section")
    return section
