"""Other programs on this process's cores: reported once, since training beside one is often several times slower.

OpenMP's threads work in lock-step: where one of them waits for a core, all wait for it, in every kernel.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

OTHERS = 0.3  # cores used by others, from which on they are reported
DELAY = 0.2  # threads of ours that wait for a core, on average
PATIENCE = 5.0  # seconds that it must last


@dataclass(frozen=True)
class Usage:
    """A moment's counters, seconds: of all cores that this process may use, of its own threads, of their waits."""

    wall: float
    busy: float
    own: float
    delay: float


class Neighbors:
    """Notices other programs on the cores that this process may use. Call `line` now and then."""

    def __init__(self, ranks: int = 1) -> None:
        """ranks: of ours on this machine, whose work counts as our own."""
        self._ranks, self._told = ranks, False
        self._since = self._before = usage()

    def line(self) -> str | None:
        """What is to be told, once: others were at work, and kept ours waiting, in each call over PATIENCE seconds."""
        now, before = usage(), self._before
        self._before = now
        if self._told or now is None or before is None or now.wall <= before.wall:
            return None
        if not self._hindered(before, now):
            self._since = now
            return None
        if self._since is None or now.wall - self._since.wall < PATIENCE:
            return None
        self._told = True
        cores, waits = self._shares(self._since, now)
        return (
            f"note: other programs use {cores:.1f} of the {len(os.sched_getaffinity(0))} cores that training may use, "
            f"while its threads wait for one {waits:.1f} s of each second: it may be several times slower than alone"
        )

    def _hindered(self, before: Usage, now: Usage) -> bool:
        cores, waits = self._shares(before, now)
        return cores >= OTHERS and waits >= DELAY

    def _shares(self, before: Usage, now: Usage) -> tuple[float, float]:
        """(cores that others used, threads of ours that waited), on average between the two."""
        wall = now.wall - before.wall
        others = now.busy - before.busy - self._ranks * (now.own - before.own)
        return others / wall, (now.delay - before.delay) / wall


def usage() -> Usage | None:
    """Of this moment, from /proc; None where the kernel does not tell."""
    try:
        cores = {f"cpu{core}" for core in os.sched_getaffinity(0)}
        lines = [line.split() for line in Path("/proc/stat").read_text().splitlines()]
        # user, nice, system, then idle and waiting for disks, then interrupts and what a hypervisor took
        ticks = sum(sum(map(int, [*line[1:4], *line[6:9]])) for line in lines if line[0] in cores)
        # a thread that ends takes its counters along: too little is counted then, never too much
        waits = [path.read_text().split()[1] for path in Path("/proc/self/task").glob("*/schedstat")]
    except (OSError, ValueError, IndexError):
        return None
    busy = ticks / os.sysconf("SC_CLK_TCK")
    return Usage(time.monotonic(), busy, time.process_time(), sum(map(int, waits)) / 1e9)
