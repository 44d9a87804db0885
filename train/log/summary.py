"""How a training run ended."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from train.evaluate.evaluation import Evaluation


@dataclass(frozen=True)
class Summary:
    """How a run ended."""

    folder: Path
    step: int
    total_steps: int
    best_miou: float | None
    """mIoU of best.pt."""
    best_text: str
    """What best.pt is, for a terminal."""
    last: Evaluation | None
    classes: list[str]
    images_per_second: float
    """Training crops a second, over all ranks, of this call; without validation."""
    wait_share: float
    """Share of step time that this rank spent waiting for data, 0..1."""
    stopped_by: int | None = None
    """The signal that ended it before its last step."""
    early: bool = False
    """Whether it ended because train.patience was exhausted."""
    saved: bool = True
    """Whether the last checkpoint could be written."""
