"""Reads recipes, and of a recipe the part that decides the data stream: `seed`, `augment`, and two keys of `data`.

The whole recipe belongs to `train`, which the pipeline does not know; of its other sections it knows the names.
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
from pipeline.plan import MAX_SEED

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
        if self.seed > MAX_SEED:
            raise UserError(f"seed = {self.seed}: expected a whole number of at most {MAX_SEED}")


_DATA = ("batch_size", "shuffle_window")
# All that a recipe may hold at its top and in `data`: a slip there must not pass for a default.
SECTIONS = ("name", "seed", "output", "data", "augment", "net", "loss", "optimizer", "schedule", "train")
DATA_KEYS = (
    *("path", "train", "val", "batch_size", "val_batch_size", "device", "threads", "prefetch"),
    *("shuffle_window", "on_bad_sample"),
)
KEYS = ["seed", *(f"data.{key}" for key in _DATA), *(f"augment.{key.name}" for key in dataclasses.fields(Augment))]


def load(recipe: str | None, overrides: Sequence[str] = ()) -> Stream:
    """Reads a recipe file, or a shipped one by name (None: the defaults), with `key=value` overrides.

    UserError names the file and key of a mistake; also of an override that changes nothing in the stream.
    """
    raw = read(recipe) if recipe else {}
    for override in overrides:
        key = override.partition("=")[0]
        if "=" in override and key not in KEYS:
            raise UserError(f"override {override!r} names nothing that the data stream depends on{nearest(key, KEYS)}")
        apply(raw, override)
    return parse(raw)


def parse(raw: dict[str, Any]) -> Stream:
    """A checked Stream from a recipe's nested plain values. UserError names the dotted key."""
    augment, data = (_section(raw, name) for name in ("augment", "data"))
    augments = [key.name for key in dataclasses.fields(Augment)]
    for prefix, section, known in (("", raw, SECTIONS), ("data.", data, DATA_KEYS), ("augment.", augment, augments)):
        for key in section:
            if key not in known:
                raise UserError(f"unknown key '{prefix}{key}'{nearest(str(key), known)}")
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


def shipped() -> list[str]:
    """Names of the recipes that come with segrail."""
    return sorted(path.stem for path in SHIPPED.glob("*.yaml"))


def read(recipe: str) -> dict[str, Any]:
    """A recipe file, or a shipped recipe by name, as nested plain values. UserError where there is none, or no YAML."""
    path = Path(recipe)
    if not path.suffix and not path.exists():
        path = SHIPPED / f"{recipe}.yaml"
        if not path.is_file():
            raise UserError(f"no recipe file and no shipped recipe is called {recipe!r}{nearest(recipe, shipped())}")
    try:
        raw = yaml.safe_load(path.read_text())
    except FileNotFoundError as error:
        raise UserError(f"recipe {path} does not exist; shipped recipes: {', '.join(shipped())}") from error
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


def _section(raw: dict[str, Any], name: str) -> dict[str, Any]:
    section = raw.get(name, {})
    if not isinstance(section, dict):
        raise UserError(f"{name} = {section!r}: expected a section")
    return section
