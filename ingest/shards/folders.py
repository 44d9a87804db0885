"""Shard folders by name, each with a weight, as a recipe's `data.path` or a command line lists them. Nothing is opened.

shards/camvid
[{path: shards/mine}, {path: shards/cityscapes, weight: 0.5}]
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import ConfigDict

from ingest.errors import UserError, brief, nearest

MOST = 1000.0  # the largest weight
_EXPECTED = "a shard folder, or a list such as [{path: a}, {path: b, weight: 2}]"


@dataclass(frozen=True)
class Folder:
    """One of several shard folders."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    path: str
    """A folder or a URL."""
    weight: float = 1.0
    """How often an epoch visits each of its samples: 2, twice; 0.5, every other epoch."""


@dataclass(frozen=True)
class Part:
    """A shard folder of a split: of several in `ingest.shards.joined`, elsewhere the one."""

    folder: Path
    samples: int
    weight: float = 1.0
    """How often an epoch visits each of the samples."""
    shown: str = ""
    """The folder, as the user named it."""

    @property
    def visits(self) -> int:
        """Of an epoch, to samples of this folder; at least one."""
        return max(1, round(self.weight * self.samples))


def checked(value: Any, key: str) -> Any:
    """A list of folders (each a text or a mapping with `path` and perhaps `weight`) as `Folder`s; another value as it
    is. key: names the value in a UserError."""
    if not isinstance(value, list):
        return value
    if not value:
        raise UserError(f"{key} = []: expected {_EXPECTED}")
    found = [_folder(one, f"{key}.{number}") for number, one in enumerate(value)]
    for number, one in enumerate(found):
        if one.path in [other.path for other in found[:number]]:
            raise UserError(f"{key} names {brief(one.path)} twice: name it once, with a weight of 2")
    return found


def parsed(text: str, key: str) -> list[Folder]:
    """The same from a command line: a folder, or a list in YAML. UserError where it is neither."""
    if not text.lstrip().startswith("["):
        return [Folder(text)]
    try:
        value = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UserError(f"{key} = {brief(text)}: {' '.join(str(error).split())}; expected {_EXPECTED}") from error
    return checked(value, key)


def listed(value: str | list[Folder]) -> list[Folder]:
    """One folder as a list of one."""
    return [Folder(value)] if isinstance(value, str) else value


def shown(value: str | list[Folder]) -> str:
    """For people: `a + b x2`."""
    return " + ".join(one.path + ("" if one.weight == 1 else f" x{one.weight:g}") for one in listed(value))


def _folder(value: Any, key: str) -> Folder:
    if isinstance(value, Folder):
        value = {"path": value.path, "weight": value.weight}
    if isinstance(value, str):
        value = {"path": value}
    if not isinstance(value, dict):
        raise UserError(f"{key} = {brief(value)}: expected a folder, or {{path: FOLDER, weight: NUMBER}}")
    for name in value:
        if name not in ("path", "weight"):
            raise UserError(f"unknown key {brief(f'{key}.{name}')}{nearest(str(name), ['path', 'weight'])}")
    path, weight = value.get("path"), value.get("weight", 1.0)
    if not isinstance(path, str) or not path:
        raise UserError(f"{key}.path = {brief(path)}: expected a shard folder")
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 < weight <= MOST:
        raise UserError(f"{key}.weight = {brief(weight)}: expected a number above 0, at most {MOST:g}")
    return Folder(path, float(weight))
