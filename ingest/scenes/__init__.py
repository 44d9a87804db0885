"""Procedural street scenes with exact labels: segrail's embedded data.

`write(folder, layout, ...)` draws them into any supported dataset's on-disk layout; `command` is its click command.
"""

from ingest.scenes.cli import command
from ingest.scenes.write import write

__all__ = ["command", "write"]
