"""What `python -m train.export` is asked to do; without torch, so that --help need not wait for it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Order:
    """What the file is to be, and of what."""

    path: str
    """The checkpoint."""
    data: str | None
    """Shard folder; None: the one it was trained on, where it is there."""
    split: str
    size: tuple[int, int]
    """Height and width of noise, where there are no images."""
    out: Path
    argmax: bool
    fp16: bool
    int8: bool
    checks: bool
    tolerance: float
    """Points of mIoU that int8 may cost."""
    images: int
    """That int8 is calibrated and scored on."""
