"""The training loop's clock and sums between two log steps."""

from __future__ import annotations

import resource
import time
from collections import deque
from collections.abc import Iterator
from typing import Any

import torch

from pipeline.batch import Batch
from train.distributed import Ranks

_NEVER = 2**62  # of a step that has not gone wrong


class Window:
    """Times and sums since the last log; sums stay on the device until then."""

    def __init__(self, world: Ranks, batch_size: int, parts: int) -> None:
        """parts: batches a step (gradient accumulation)."""
        self._world, self._parts, self._images = world, parts, batch_size * parts * world.world
        self._sums: dict[str, torch.Tensor] = {}
        self._first_bad = torch.full((), _NEVER, dtype=torch.int64, device=world.device)
        self._steps = self._all_steps = self._window_start = 0
        self._own_bad = _NEVER
        self._on_gpu = world.device.type == "cuda"
        self._waits: list[tuple[Any, Any]] = []
        self._all_wait = self._all_time = 0.0
        self._keys: deque[list[str]] = deque(maxlen=1000)
        self._skips, self._skipped, self._told = 0, dict[str, str](), set[str]()
        self.newly_skipped: dict[str, str] = {}
        """Broken samples of the last window and why, of all ranks, each told once."""
        self._start = time.perf_counter()

    def next(self, batches: Iterator[Batch]) -> Batch:
        """The next batch, the wait for it counted: on a GPU, how long it had nothing to do until the batch came.

        The host may wait for a batch while the GPU still works on the one before: that costs nothing.
        """
        start = self._now()
        batch = next(batches)
        self._waits.append((start, self._now()))
        self._keys.append(batch.keys)
        self._skips += len(batch.skipped)
        self._skipped |= batch.skipped
        return batch

    def add(self, losses: dict[str, torch.Tensor], norm: torch.Tensor, may_overflow: bool = False) -> None:
        """One step's numbers; nothing here waits for the device.

        may_overflow: a gradient that is not finite is no fault (fp16: such steps are left out and the scale lowered).
        """
        for name, value in {**losses, "gradient_norm": norm}.items():
            self._sums[name] = self._sums.get(name, torch.zeros_like(value)) + value
        now = torch.full_like(self._first_bad, self._steps)
        good = losses["loss"].isfinite() if may_overflow else losses["loss"].isfinite() & norm.isfinite()
        self._first_bad = torch.where(good, self._first_bad, self._first_bad.minimum(now))
        self._steps += 1

    def flush(self, step: int) -> tuple[dict[str, float], int | None]:
        """Means over the window and all ranks, and the first step whose loss or gradient was not finite on any."""
        names = sorted(self._sums)
        means = [self._sums[name].double() / (self._steps * self._world.world) for name in names]
        skips = torch.tensor(self._skips, dtype=torch.float64, device=self._world.device)
        *totals, all_skips = self._world.sum_(torch.stack([*means, skips])).tolist()
        values = dict(zip(names, totals, strict=True))
        self.newly_skipped = {}
        if all_skips:  # on every rank alike, so that all meet here
            values["skipped_samples"] = all_skips
            found = {key: reason for part in self._world.gather(self._skipped) for key, reason in part.items()}
            self.newly_skipped = {key: reason for key, reason in found.items() if key not in self._told}
            self._told |= set(found)
        self._skips, self._skipped = 0, {}
        self._own_bad = int(self._first_bad.item())
        # Every rank must learn of it, or the others would wait for this one in their next collective.
        first_bad = int(self._world.min_(self._first_bad).item())
        bad_step = step - self._steps + first_bad + 1 if first_bad < _NEVER else None
        self._window_start = step - self._steps
        seconds = time.perf_counter() - self._start
        values["images_per_second"] = self._steps * self._images / seconds
        wait = sum(self._between(start, end) for start, end in self._waits)
        values["data_wait_share"] = wait / seconds
        values["seconds_per_step"] = seconds / self._steps
        values["memory_gb"] = peak_memory(self._world.device) / 1e9
        self._all_steps, self._all_time = self._all_steps + self._steps, self._all_time + seconds
        self._all_wait += wait
        self._sums, self._steps, self._waits, self._start = {}, 0, [], time.perf_counter()
        return values, bad_step

    def _now(self) -> Any:
        if not self._on_gpu:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def _between(self, start: Any, end: Any) -> float:
        """Seconds; on a GPU once it is past both."""
        return start.elapsed_time(end) / 1000 if self._on_gpu else end - start

    def restart(self) -> None:
        """Starts the clock anew: validation and checkpoints are no part of a step."""
        self._start = time.perf_counter()

    def blame(self, bad_step: int, step: int) -> str:
        """Whose batch it was that went wrong at `bad_step`, when `step` steps are done."""
        if self._window_start + self._own_bad + 1 != bad_step:
            return "on another rank, which names the samples"
        parts = self._parts * (step - bad_step + 1)
        batches = list(self._keys)[-parts:][: self._parts] if parts <= len(self._keys) else []
        keys = [key for batch in batches for key in batch]
        return f"batch: {', '.join(keys)}" if keys else "its samples are no longer known"

    @property
    def images_per_second(self) -> float:
        return self._all_steps * self._images / self._all_time if self._all_time else 0.0

    @property
    def wait_share(self) -> float:
        return self._all_wait / self._all_time if self._all_time else 0.0


def peak_memory(device: torch.device) -> int:
    """The most that this rank has held so far, bytes: of tensors on its GPU, or resident on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
