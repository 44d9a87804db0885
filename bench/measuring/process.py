"""CPU time and memory of this process, its threads and its children, from /proc."""

from __future__ import annotations

import os
import resource
from pathlib import Path

_TICK = os.sysconf("SC_CLK_TCK")


def cpu_seconds() -> float:
    """User and system time of this process and its living children."""
    own = resource.getrusage(resource.RUSAGE_SELF)
    return own.ru_utime + own.ru_stime + sum(_times(Path(f"/proc/{child}/stat"))[1] for child in _children())


def thread_seconds() -> dict[int, tuple[str, float]]:
    """Of each thread: its number -> (its name, user and system time so far)."""
    found = {}
    for task in Path("/proc/self/task").iterdir():
        name, seconds = _times(task / "stat")
        found[int(task.name)] = (name, seconds)
    return found


def peak_mb() -> float:
    """Peak resident memory of this process and its living children together, MB."""
    total = 0.0
    # not getrusage's ru_maxrss: that of a process starts at its parent's
    for number in (os.getpid(), *_children()):
        try:
            status = Path(f"/proc/{number}/status").read_text()
        except OSError:
            continue
        peak = [line for line in status.splitlines() if line.startswith("VmHWM")]
        total += int(peak[0].split()[1]) / 1024 if peak else 0
    return total


def _times(stat: Path) -> tuple[str, float]:
    """Name and CPU seconds of a process or thread; 0 for one that is gone."""
    try:
        name, fields = stat.read_text().split("(", 1)[1].rsplit(")", 1)
    except OSError:
        return "", 0.0
    words = fields.split()
    return name, (int(words[11]) + int(words[12])) / _TICK


def _children() -> list[int]:
    mine = str(os.getpid())
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = stat.read_text().rsplit(")", 1)[1].split()[1]
        except OSError:
            continue
        if parent == mine:
            found.append(int(stat.parent.name))
    return found
