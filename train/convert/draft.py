"""`python -m train convert config.json`: a JSON config of yassouali/pytorch-segmentation as a recipe.

`train.convert.keys` knows what each key there means here. This file reads the JSON, writes the YAML, and says of every
key that was not taken over, or not in the same meaning, what to do instead.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from ingest.errors import UserError

_MISSING = object()
_KINDS = {str: "a text", int: "a whole number", float: "a number", bool: "true or false", dict: "a section {...}"}


class Source:
    """The JSON config. `take` hands out each key once; `left` are those that nobody asked for.

    UserErrors name file, key and value.
    """

    def __init__(self, raw: Any, path: str) -> None:
        self.path = path
        if not isinstance(raw, dict):
            raise UserError(f"{path} holds {type(raw).__name__}, expected sections such as arch and train_loader")
        self._left = {**raw}
        for key, value in raw.items():
            if isinstance(value, dict):
                self._left[key] = {
                    **value,
                    **({"args": {**value["args"]}} if isinstance(value.get("args"), dict) else {}),
                }

    def take(self, key: str, kind: type, default: Any = _MISSING) -> Any:
        """The value at a dotted key, of type str, int, float or bool; null reads as left out."""
        *sections, last = key.split(".")
        place: Any = self._left
        for depth, section in enumerate(sections, start=1):
            place = place.get(section, {})
            if not isinstance(place, dict):
                raise self.error(".".join(sections[:depth]), place, f"expected {_KINDS[dict]}")
        value = place.pop(last, None)
        if value is None:
            if default is _MISSING:
                raise UserError(
                    f"{self.path}: {key} is missing: this is no config of pytorch-segmentation, or only a part"
                )
            return default
        fits = isinstance(value, (int, float) if kind is float else kind)
        if not fits or (isinstance(value, bool) and kind is not bool):
            raise self.error(key, value, f"expected {_KINDS[kind]}")
        return float(value) if kind is float else value

    def drop(self, key: str) -> None:
        """Counts a key of any type, seen among the `left`, as read."""
        *sections, last = key.split(".")
        place = self._left
        for section in sections:
            place = place[section]
        place.pop(last)

    def error(self, key: str, value: Any, why: str) -> UserError:
        """To raise: file, key, value, and what was expected."""
        return UserError(f"{self.path}: {key} = {json.dumps(value)}: {why}")

    def left(self) -> list[tuple[str, Any]]:
        """Keys that were never taken, with their values; emptied sections are not among them."""
        found: list[tuple[str, Any]] = []

        def walk(value: Any, path: tuple[str, ...]) -> None:
            if isinstance(value, dict) and len(path) < 3:
                for key, inner in value.items():
                    walk(inner, (*path, str(key)))
            else:
                found.append((".".join(path), value))

        walk(self._left, ())
        return found


@dataclass
class Draft:
    """A recipe in the making."""

    values: dict[str, Any] = field(default_factory=dict)
    """Dotted recipe keys -> values, in the order in which they are written."""
    origins: dict[str, str] = field(default_factory=dict)
    """Dotted recipe keys -> the keys of the config that they come from."""
    commands: list[str] = field(default_factory=list)
    """What to type to make the shards and to train."""
    notes: list[str] = field(default_factory=list)
    """Without equivalent, or of another meaning here: `key = value: why; what to do instead`."""
    fixed: list[str] = field(default_factory=list)
    """What was done there whatever the config said, and is done otherwise here: `part: what`."""

    def set(self, key: str, value: Any, origin: str = "") -> None:
        """One key of the recipe."""
        self.values[key] = value
        if origin:
            self.origins[key] = origin

    def note(self, key: str, value: Any, why: str) -> None:
        """One key of the config that does not simply carry over."""
        self.notes.append(f"{key} = {json.dumps(value)}: {why}")

    def nested(self) -> dict[str, Any]:
        """The recipe as nested plain values, for `config.parse`."""
        raw: dict[str, Any] = {}
        for key, value in self.values.items():
            *sections, last = key.split(".")
            place = raw
            for section in sections:
                place = place.setdefault(section, {})
            place[last] = value
        return raw
