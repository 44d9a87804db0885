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
    """Whose time it is: `enter` says which part begins, and so ends the one before.

    On a GPU the time is the device's own, between events in its queue: "data" is then how long the device had nothing
    to do until a batch came, not how long the host waited while the device was still busy.
    """

    def __init__(self, device: torch.device) -> None:
        self._on_gpu = device.type == "cuda"
        self._entries: list[tuple[str, Any]] = []

    def enter(self, part: str) -> None:
        """One of PARTS, or any other word for what is not counted."""
        if self._on_gpu:
            event = torch.cuda.Event(enable_timing=True)
            event.record()
            self._entries.append((part, event))
        else:
            self._entries.append((part, time.perf_counter()))

    def reset(self) -> None:
        """Forgets what was; waits for the device."""
        if self._on_gpu:
            torch.cuda.synchronize()
        self._entries = []

    def read(self) -> dict[str, float]:
        """Seconds of each of PARTS until the last `enter`; waits for the device."""
        if self._on_gpu:
            torch.cuda.synchronize()
        spent = dict.fromkeys(PARTS, 0.0)
        for (part, begin), (_, end) in zip(self._entries, self._entries[1:], strict=False):
            if part in spent:
                spent[part] += begin.elapsed_time(end) / 1000 if self._on_gpu else end - begin
        return spent

    def waiting(self, batches: Iterator[T]) -> Iterator[T]:
        """The same batches, the wait for each counted as data."""
        while True:
            self.enter("data")
            try:
                batch = next(batches)
            except StopIteration:
                return
            yield batch

    def entering(self, part: str, call: Callable[P, R]) -> Callable[P, R]:
        """`call`, at whose start `part` begins."""

        def timed(*args: P.args, **kwargs: P.kwargs) -> R:
            self.enter(part)
            return call(*args, **kwargs)

        return timed

    def leaving(self, call: Callable[P, R], part: str) -> Callable[P, R]:
        """`call`, at whose end `part` begins."""

        def timed(*args: P.args, **kwargs: P.kwargs) -> R:
            result = call(*args, **kwargs)
            self.enter(part)
            return result

        return timed
