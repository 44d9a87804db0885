"""Measures one row in a process of its own: `python -m bench.measure < setting.json` prints one line of JSON.

A process each, because forking loader workers after DALI's threads have started can deadlock, and so that memory and
CPU time are the row's own.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from bench.rows import ROWS, Setting

WARM_UP = 1.0  # seconds: workers started, caches warm


def measure(row: str, setting: Setting, seconds: float) -> dict[str, float]:
    """Runs a row for `seconds` after a warm-up -> images/s, CPU-seconds an image, peak memory in MB (all processes)."""
    batches = ROWS[row](setting)
    next(batches)
    end = time.perf_counter() + min(WARM_UP, seconds)
    while time.perf_counter() < end:
        next(batches)
    cpu, start, images = _cpu_seconds(), time.perf_counter(), 0
    while (now := time.perf_counter()) < start + seconds or not images:
        images += next(batches)
    if setting.device == "gpu":
        import torch

        torch.cuda.synchronize()
        now = time.perf_counter()
    cpu = _cpu_seconds() - cpu
    return {"images_per_second": images / (now - start), "cpu_seconds_per_image": cpu / images, "peak_mb": _peak_mb()}


def in_process(row: str, setting: Setting, seconds: float) -> dict[str, float]:
    """`measure` in a fresh process. RuntimeError with its last words when it dies."""
    order = json.dumps({"row": row, "seconds": seconds, "setting": asdict(setting)})
    done = subprocess.run([sys.executable, "-m", "bench.measure"], input=order, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"row {row!r} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def _children() -> list[int]:
    mine = str(os.getpid())
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        if fields[1] == mine:
            found.append(int(stat.parent.name))
    return found


def _cpu_seconds() -> float:
    """User and system time of this process and its living children."""
    own = resource.getrusage(resource.RUSAGE_SELF)
    ticks = 0
    for child in _children():
        try:
            fields = Path(f"/proc/{child}/stat").read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        ticks += int(fields[11]) + int(fields[12])
    return own.ru_utime + own.ru_stime + ticks / os.sysconf("SC_CLK_TCK")


def _peak_mb() -> float:
    """Peak resident memory of this process and its living children together, MB."""
    total = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    for child in _children():
        try:
            status = Path(f"/proc/{child}/status").read_text()
        except OSError:
            continue
        peak = [line for line in status.splitlines() if line.startswith("VmHWM")]
        total += int(peak[0].split()[1]) / 1024 if peak else 0
    return total


def _main() -> None:
    order: dict[str, Any] = json.load(sys.stdin)
    found = measure(order["row"], TypeAdapter(Setting).validate_python(order["setting"]), order["seconds"])
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    _main()
