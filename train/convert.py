"""`python -m train convert config.json`: the predecessor's JSON config (yassouali/pytorch-segmentation) as a recipe.

`train.predecessor` knows what each key there means here. This file reads the JSON, writes the YAML, and says of every
key that was not taken over, or not in the same meaning, what to do instead.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import yaml

from ingest.errors import UserError
from train import config

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


def convert_config(raw: Any, path: str) -> Draft:
    """The config's plain values -> a recipe that `config.parse` accepts. UserError names file, key and value."""
    from train import predecessor

    source, draft = Source(raw, path), Draft()
    predecessor.translate(source, draft)
    for key, value in source.left():
        draft.note(key, value, "not read; no equivalent is known")
    try:
        config.parse(draft.nested())
    except UserError as error:
        key = str(error).split(" ", 1)[0]
        origin = draft.origins.get(key, "")
        raise UserError(f"{path}{': ' + origin if origin else ''} gives a recipe that cannot be: {error}") from error
    return draft


def render(draft: Draft, path: str) -> str:
    """The recipe as YAML: each key beside the one it comes from, and the notes at the end."""
    lines = [f"# From {Path(path).name} of pytorch-segmentation, by `python -m train convert`."]
    lines += [f"#   {command}" for command in draft.commands]
    section = ""
    for key, value in draft.values.items():
        head, _, last = key.rpartition(".")
        if head != section:
            lines.append(f"{head}:")
            section = head
        text = yaml.safe_dump(value, default_flow_style=True, width=10**6).removesuffix("...\n").strip()
        line = f"{'  ' if head else ''}{last or key}: {text}"
        origin = draft.origins.get(key)
        lines.append(f"{line:<28}  # {origin}" if origin else line)
    if draft.notes:
        lines += ["", "# Without equivalent, or of another meaning here:"]
        lines += [f"#   {note}" for note in draft.notes]
    return "\n".join(lines) + "\n"


@click.command(short_help="A recipe from a config of pytorch-segmentation.")
@click.argument("config_json", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="The recipe to write.  [default: to the terminal]")
def convert(config_json: Path, out: Path | None) -> None:
    """Turn a JSON config of yassouali/pytorch-segmentation into a recipe.

    \b
    python -m train convert config.json --out my.yaml
    python -m train --cfg my.yaml --dry-run

    The recipe says beside each key where it comes from. Keys without equivalent, and those whose meaning differs, are
    listed on stderr and at the recipe's end, with what to use instead.
    """
    try:
        raw = json.loads(config_json.read_text())
    except FileNotFoundError as error:
        raise UserError(f"{config_json} does not exist: give the config.json that the run was started with") from error
    except (IsADirectoryError, UnicodeDecodeError) as error:
        raise UserError(f"{config_json} is no text file: give a config.json") from error
    except json.JSONDecodeError as error:
        hint = "; JSON has no comments: remove them" if "//" in error.doc else ""
        raise UserError(f"{config_json} is not JSON: {error.msg} in line {error.lineno}{hint}") from error
    if out is not None and not out.parent.is_dir():
        raise UserError(f"--out {out}: folder {out.parent} does not exist: make it, or name another")
    if out is not None and out.exists():
        raise UserError(f"--out {out} exists: name another file, or remove it")
    draft = convert_config(raw, str(config_json))
    text = render(draft, str(config_json))
    if draft.notes:
        click.echo("without equivalent, or of another meaning here:", err=True)
        for note in draft.notes:
            click.echo(f"  {note}", err=True)
    if out is None:
        click.echo(text, nl=False)
    else:
        out.write_text(text)
        click.echo(f"{out}: {len(draft.values)} keys; next: python -m train --cfg {out} --dry-run")
