"""What the training loop sums up between two log steps."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from pipeline.batch import Batch
from train.distributed import Ranks
from train.log.clock import Clock
from train.log.faults import BadSteps, Skipped


class Window:
    """Losses and times since the last log; sums stay on the device until then."""

    def __init__(self, ranks: Ranks, batch_size: int, parts: int, step: int = 0) -> None:
        """parts: batches a step (gradient accumulation). step: steps that are done."""
        self._ranks, self._step, self._steps = ranks, step, 0
        self._sums: dict[str, torch.Tensor] = {}
        self._bad, self._skipped = BadSteps(ranks, parts), Skipped(ranks)
        self.clock = Clock(ranks.device, batch_size * parts * ranks.count)
        self.newly_skipped: dict[str, str] = {}
        """Damaged samples of the last window and why, of all ranks, each reported once."""

    def next(self, batches: Iterator[Batch]) -> Batch:
        """The next batch, the wait for it counted."""
        with self.clock.waiting():
            batch = next(batches)
        self._bad.saw(batch)
        self._skipped.saw(batch)
        return batch

    def add(self, losses: dict[str, torch.Tensor], norm: torch.Tensor, may_overflow: bool = False) -> None:
        """One step's numbers; nothing here waits for the device.

        may_overflow: a gradient that is not finite is no fault (fp16: such steps are left out and the scale lowered).
        """
        for name, value in {**losses, "gradient_norm": norm}.items():
            self._sums[name] = self._sums.get(name, torch.zeros_like(value)) + value
        self._step, self._steps = self._step + 1, self._steps + 1
        good = losses["loss"].isfinite()
        self._bad.add(self._step, good if may_overflow else good & norm.isfinite())

    def flush(self) -> tuple[dict[str, float], int | None]:
        """Means over the window and all ranks, and the first step whose loss or gradient was not finite on any."""
        names = sorted(self._sums)
        means = [self._sums[name].double() / (self._steps * self._ranks.count) for name in names]
        *totals, skipped = self._ranks.sum_(torch.stack([*means, self._skipped.count()])).tolist()
        values = dict(zip(names, totals, strict=True))
        if skipped:
            values["skipped_samples"] = skipped
        self.newly_skipped = self._skipped.read(skipped)
        bad_step = self._bad.read()
        values |= self.clock.read(self._steps)
        self._sums, self._steps = {}, 0
        return values, bad_step

    def suspects(self, bad_step: int) -> str:
        """Whose batch it was that went wrong at `bad_step`."""
        return self._bad.suspects(bad_step, self._step)
