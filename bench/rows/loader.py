"""Measures one row in a process of its own: `python -m bench.rows.loader < order.json` prints one line of JSON.

A process each, because forking loader workers after DALI's threads have started can deadlock, and so that memory and
CPU time are the row's own.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from pydantic import TypeAdapter

from bench import loaders
from bench.data.setting import Setting
from bench.measuring import fresh, process
from bench.measuring.fresh import Numbers

WARM_UP = 1.0  # seconds: workers started, caches warm
STAGES_OF = "ours"  # the row whose CPU time is split into stages


def measure(name: str, setting: Setting, seconds: float) -> Numbers:
    """Runs a row for `seconds` after a warm-up.

    images_per_second; cpu_seconds_per_image and peak_mb of all its processes; busy_cores; first_images_per_second, of
    the warm-up; for `ours` also read_, decode_, warp_ and rest_seconds, CPU an image; gpu_mb where there is one.
    """
    batches = loaders.start(name, setting)
    free = _free_gpu_mb(setting)
    next(batches)
    first = _run(batches, min(WARM_UP, seconds), 1, setting)
    cpu = process.cpu_seconds()
    # Workers that started together end together: only whole rounds of them are a fair count.
    found = _run(batches, seconds, setting.threads, setting)
    cpu = process.cpu_seconds() - cpu
    images, took = found
    facts = {
        "images_per_second": images / took,
        "cpu_seconds_per_image": cpu / images,
        "busy_cores": cpu / took,
        "first_images_per_second": first[0] / first[1],
        "peak_mb": process.peak_mb(),
    }
    if setting.device == "gpu":
        facts["gpu_mb"] = free - _free_gpu_mb(setting)
    if name == STAGES_OF:
        facts |= _stages(batches, min(2.0, seconds), setting)
    return facts


def in_process(name: str, setting: Setting, seconds: float) -> Numbers:
    """`measure` in a fresh process. RowFailed with its last words when it dies."""
    return fresh.run("bench.rows.loader", {"row": name, "seconds": seconds, "setting": asdict(setting)})


def _keep_to(cores: int) -> None:
    """Gives this process and its workers so many cores and no more, whatever number of threads a row starts."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])


def _run(batches: Iterator[int], seconds: float, rounds_of: int, setting: Setting) -> tuple[int, float]:
    """(images, seconds): for at least `seconds`, and a multiple of `rounds_of` batches, made and not merely begun."""
    _await_gpu(setting)
    start, images, count = time.perf_counter(), 0, 0
    while time.perf_counter() < start + seconds or not images or count % rounds_of:
        images += next(batches)
        count += 1
    _await_gpu(setting)
    return images, time.perf_counter() - start


def _stages(batches: Iterator[int], seconds: float, setting: Setting) -> Numbers:
    from bench.measuring.stages import Stages

    with Stages() as stages:
        images, _ = _run(batches, seconds, 1, setting)
    return {f"{stage}_seconds": spent / images for stage, spent in stages.seconds.items()}


def _await_gpu(setting: Setting) -> None:
    """Waits for what is queued: some rows hand out batches that are still being made."""
    if setting.device == "gpu":
        import torch

        torch.cuda.synchronize()


def _free_gpu_mb(setting: Setting) -> float:
    if setting.device != "gpu":
        return 0.0
    import torch

    _await_gpu(setting)
    return torch.cuda.mem_get_info()[0] / 2**20


def _main() -> None:
    order: dict[str, Any] = json.load(sys.stdin)
    setting = TypeAdapter(Setting).validate_python(order["setting"])
    _keep_to(setting.threads)
    found = measure(order["row"], setting, order["seconds"])
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    _main()
