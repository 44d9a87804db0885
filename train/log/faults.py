"""What goes wrong in steps: losses that are not finite, samples that are damaged; on which rank, in which batch."""

from __future__ import annotations

from collections import deque

import torch

from pipeline.batch import Batch
from train.distributed import Ranks

_NEVER = 2**62  # of a step that has not gone wrong


class BadSteps:
    """Finds the first step whose loss or gradient is not finite, without waiting for the device before it is asked."""

    def __init__(self, ranks: Ranks, parts: int) -> None:
        """parts: batches a step (gradient accumulation)."""
        self._ranks, self._parts = ranks, parts
        self._first = torch.full((), _NEVER, dtype=torch.int64, device=ranks.device)
        self._own: int | None = None
        self._keys: deque[list[str]] = deque(maxlen=1000)

    def saw(self, batch: Batch) -> None:
        """A batch of the step that follows."""
        self._keys.append(batch.keys)

    def add(self, step: int, good: torch.Tensor) -> None:
        """good: bool scalar on the device, whether all was finite at `step`."""
        now = torch.full_like(self._first, step)
        self._first = torch.where(good, self._first, self._first.minimum(now))

    def read(self) -> int | None:
        """The first bad step of any rank so far; collective: every rank calls it."""
        own = int(self._first.item())
        self._own = own if own < _NEVER else None
        first = int(self._ranks.min_(self._first).item())
        return first if first < _NEVER else None

    def suspects(self, bad_step: int, step: int) -> str:
        """Whose batch it was that went wrong at `bad_step`, as `read` told, when `step` steps are done."""
        if self._own != bad_step:
            return "on another rank, which names the samples"
        parts = self._parts * (step - bad_step + 1)
        batches = list(self._keys)[-parts:][: self._parts] if parts <= len(self._keys) else []
        keys = [key for batch in batches for key in batch]
        return f"batch: {', '.join(keys)}" if keys else "its samples are no longer known"


class Skipped:
    """Damaged samples that counted for nothing, of all ranks, each named once."""

    def __init__(self, ranks: Ranks) -> None:
        self._ranks = ranks
        self._count, self._found, self._told = 0, dict[str, str](), set[str]()

    def saw(self, batch: Batch) -> None:
        """A batch of this rank."""
        self._count += len(batch.skipped)
        self._found |= batch.skipped

    def count(self) -> torch.Tensor:
        """How many this rank skipped since the last `read`, float64 scalar on the device, to be summed up."""
        return torch.tensor(self._count, dtype=torch.float64, device=self._ranks.device)

    def read(self, of_all: float) -> dict[str, str]:
        """Key -> reason of those not told before. of_all: the sum of all ranks' `count`, so that all meet here."""
        found: dict[str, str] = {}
        if of_all:
            found = {key: reason for part in self._ranks.gather(self._found) for key, reason in part.items()}
        new = {key: reason for key, reason in found.items() if key not in self._told}
        self._told |= set(found)
        self._count, self._found = 0, {}
        return new
