"""What every row of a bench is given: which data, what is done to it, and with how much of the machine."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.augment import Augment


@dataclass(frozen=True)
class Setting:
    """One row's work."""

    folder: str
    """Shard folder."""
    split: str
    augment: Augment
    batch: int
    """Images a batch."""
    threads: int
    """Threads, or worker processes, of the row."""
    device: str
    """cpu | gpu: where the batches are made, or must end up."""
    prefetch: int = 2
    """Batches made ahead."""
