"""A config's values to a checked recipe, and the recipe as YAML."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from ingest.errors import UserError
from train import config
from train.convert import keys
from train.convert.draft import Draft, Source


def convert_config(raw: Any, path: str) -> Draft:
    """The config's plain values -> a recipe that `config.parse` accepts. UserError names file, key and value."""
    source, draft = Source(raw, path), Draft()
    keys.translate(source, draft)
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
    """The recipe as YAML: each key beside the one it comes from, and at the end what differs."""
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
    if draft.fixed:
        lines += ["", "# Done there whatever the config said, and otherwise here:"]
        lines += [f"#   {text}" for text in draft.fixed]
    return "\n".join(lines) + "\n"
