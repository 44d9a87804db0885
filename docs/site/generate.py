"""mkdocs hook: pages that are made from the code, so that nothing is written twice."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import click
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from train import reference

_WIDTH = 96  # characters a line, which fit into a page beside its navigation
# (title, module, attribute of its click command)
COMMANDS = [
    ("python -m ingest", "ingest.__main__", "main"),
    ("python -m pipeline", "pipeline.__main__", "main"),
    ("python -m nets", "nets.__main__", "main"),
    ("python -m train", "train.__main__", "command"),
    ("python -m train recipes", "train.commands", "recipes"),
    ("python -m train schedule", "train.commands", "schedule"),
    ("python -m train keys", "train.reference", "keys"),
    ("python -m train convert", "train.convert.command", "convert"),
    ("python -m train.evaluate", "train.evaluate.command", "command"),
    ("python -m train.predict", "train.predict.command", "command"),
    ("python -m train.export", "train.export.command", "command"),
    ("python -m train.view", "train.view.command", "command"),
    ("python -m train.report", "train.report.command", "command"),
    ("python -m bench.loader", "bench.loader", "command"),
    ("python -m bench.train", "bench.train", "command"),
    ("python -m bench.nets", "bench.nets", "main"),
    ("python -m bench.ingest", "bench.ingest", "main"),
    ("python -m bench.predict", "bench.predict", "main"),
    ("python -m bench.scale", "bench.scale", "main"),
    ("python -m bench.staging", "bench.staging", "main"),
    ("python -m bench.ablation", "bench.ablation", "command"),
    ("python -m bench.gpu_report", "bench.gpu_report", "command"),
    ("python -m bench.parity", "bench.parity.__main__", "main"),
]


def commands() -> str:
    """The command reference: under each command's name what its `--help` says."""
    parts = ["# Commands", "What `--help` says. `segrail ingest ...` is the same as `python -m ingest ...`, and so on."]
    for title, module, attribute in COMMANDS:
        parts += _pages(getattr(import_module(module), attribute), title, "##")
    return "\n\n".join(parts) + "\n"


def _pages(command: click.Command, title: str, mark: str) -> list[str]:
    """A command's heading and help, then those of its sub-commands. mark: the heading's number signs."""
    context = click.Context(command, info_name=title, terminal_width=_WIDTH, max_content_width=_WIDTH)
    parts = [f"{mark} {title}", f"```text\n{command.get_help(context)}\n```"]
    for name in command.list_commands(context) if isinstance(command, click.Group) else []:
        found = command.get_command(context, name)
        assert found is not None
        parts += _pages(found, f"{title} {name}", f"{mark}#")
    return parts


def on_files(files: Files, config: MkDocsConfig, **_: Any) -> Files:
    """Adds the generated pages."""
    files.append(File.generated(config, "commands.md", content=commands()))
    files.append(File.generated(config, "recipe_keys.md", content=reference.markdown()))
    return files
