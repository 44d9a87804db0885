"""A measurement in a process of its own: an order goes in as JSON, one line of JSON comes out."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

Facts = dict[str, float]


class RowFailed(RuntimeError):
    """A row's process died; the message is its last words."""


def run(module: str, order: dict[str, Any]) -> Facts:
    """What `python -m module` says to `order`, which must name its row. RowFailed when it dies."""
    command = [sys.executable, "-m", module]
    done = subprocess.run(command, input=json.dumps(order), capture_output=True, text=True)
    if done.returncode:
        words = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise RowFailed(f"row {order['row']!r} failed: {words[-1]}")
    return json.loads(done.stdout.splitlines()[-1])
