"""The training loop's clock: how long steps take, and how much of that is waiting for data."""

from __future__ import annotations

import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


class Clock:
    """Times the steps since the last `read`, and all of them; validation and checkpoints are left out by `restart`."""

    def __init__(self, device: torch.device, images_a_step: int) -> None:
        """images_a_step: of all ranks."""
        self._device, self._images = device, images_a_step
        self._waits: list[tuple[Any, Any]] = []
        self._all_steps, self._all_wait, self._all_time = 0, 0.0, 0.0
        self._start = time.perf_counter()

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Within the block this rank waits for a batch. On a GPU: counted as far as the GPU had nothing to do.

        The host may wait for a batch while the GPU still works on the one before: that costs nothing.
        """
        start = self._now()
        yield
        self._waits.append((start, self._now()))

    def read(self, steps: int) -> dict[str, float]:
        """images_per_second of all ranks, data_wait_share, seconds_per_step and memory_gb of `steps` steps."""
        seconds = time.perf_counter() - self._start
        wait = sum(self._between(start, end) for start, end in self._waits)
        self._all_steps, self._all_time, self._all_wait = (
            self._all_steps + steps,
            self._all_time + seconds,
            self._all_wait + wait,
        )
        self._waits = []
        self.restart()
        return {
            "images_per_second": steps * self._images / seconds,
            "data_wait_share": wait / seconds,
            "seconds_per_step": seconds / steps,
            "memory_gb": peak_memory(self._device) / 1e9,
        }

    def restart(self) -> None:
        """Starts again from now."""
        self._start = time.perf_counter()

    @property
    def images_per_second(self) -> float:
        """Over all `read`s."""
        return self._all_steps * self._images / self._all_time if self._all_time else 0.0

    @property
    def wait_share(self) -> float:
        """Over all `read`s, 0..1."""
        return self._all_wait / self._all_time if self._all_time else 0.0

    def _now(self) -> Any:
        """A moment: on a GPU a mark in its queue, so that nothing waits for it."""
        if self._device.type != "cuda":
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def _between(self, start: Any, end: Any) -> float:
        """Seconds; on a GPU once it is past both."""
        return start.elapsed_time(end) / 1000 if self._device.type == "cuda" else end - start


def peak_memory(device: torch.device) -> int:
    """The most that this rank has held so far, bytes: of tensors on its GPU, or resident on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
