"""Splits a training step into its parts: wall time on a CPU, CUDA events on a GPU."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any, ParamSpec, TypeVar

import torch

PARTS = ("data", "forward", "backward", "optimizer")
P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


class Clock:
    """Times the parts of a step: `enter(part)` ends the current part and starts `part`; `read` gives the sums.

    On a GPU, times are the device's, between events in its queue: "data" is how long the device was idle until a batch
    came, not how long the host waited while the device was still busy.
    """

    def __init__(self, device: torch.device) -> None:
        self._on_gpu = device.type == "cuda"
        self._entries: list[tuple[str, Any]] = []

    def enter(self, part: str) -> None:
        """Ends the current part and starts `part`: one of PARTS; any other name is not counted."""
        if self._on_gpu:
            event = torch.cuda.Event(enable_timing=True)
            event.record()
            self._entries.append((part, event))
        else:
            self._entries.append((part, time.perf_counter()))

    def reset(self) -> None:
        """Sets all sums to zero; waits for the device."""
        if self._on_gpu:
            torch.cuda.synchronize()
        self._entries = []

    def read(self) -> dict[str, float]:
        """Seconds spent in each of PARTS, up to the last `enter`; waits for the device."""
        if self._on_gpu:
            torch.cuda.synchronize()
        spent = dict.fromkeys(PARTS, 0.0)
        for (part, begin), (_, end) in zip(self._entries, self._entries[1:], strict=False):
            if part in spent:
                spent[part] += begin.elapsed_time(end) / 1000 if self._on_gpu else end - begin
        return spent

    def waiting(self, batches: Iterator[T]) -> Iterator[T]:
        """Yields the same batches; the time until each arrives counts as "data"."""
        while True:
            self.enter("data")
            try:
                batch = next(batches)
            except StopIteration:
                return
            yield batch

    def entering(self, part: str, call: Callable[P, R]) -> Callable[P, R]:
        """Wraps `call` so that `part` starts when it is called."""

        def timed(*args: P.args, **kwargs: P.kwargs) -> R:
            self.enter(part)
            return call(*args, **kwargs)

        return timed

    def leaving(self, call: Callable[P, R], part: str) -> Callable[P, R]:
        """Wraps `call` so that `part` starts when it returns."""

        def timed(*args: P.args, **kwargs: P.kwargs) -> R:
            result = call(*args, **kwargs)
            self.enter(part)
            return result

        return timed
