"""mkdocs hook: pages that are made from the code, so that nothing is written twice."""

from __future__ import annotations

from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from train import reference

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
    ("python -m bench.ablation", "bench.ablation", "command"),
    ("python -m bench.gpu_report", "bench.gpu_report", "command"),
    ("python -m bench.parity", "bench.parity.__main__", "main"),
]


def commands() -> str:
    """The command reference, for the mkdocs-click extension to fill in."""
    parts = ["# Commands", "What `--help` says. `segrail ingest ...` is the same as `python -m ingest ...`, and so on."]
    for title, module, attribute in COMMANDS:
        options = {"module": module, "command": attribute, "prog_name": title, "depth": 1, "style": "table"}
        parts.append("\n".join(["::: mkdocs-click", *(f"    :{key}: {value}" for key, value in options.items())]))
    return "\n\n".join(parts) + "\n"


def on_files(files: Files, config: MkDocsConfig, **_: Any) -> Files:
    """Adds the generated pages."""
    files.append(File.generated(config, "commands.md", content=commands()))
    files.append(File.generated(config, "recipe_keys.md", content=reference.markdown()))
    return files
