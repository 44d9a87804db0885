"""What `python -m train.evaluate` is asked to do; without torch, so that --help need not wait for it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from train.predict.options import Asked

BENCHMARKS = ("ade20k", "cityscapes", "cocostuff", "voc")
"""Whose files `--submission` writes (`train.evaluate.submission.FORMS`)."""


@dataclass(frozen=True)
class Order:
    """The options, see `train.evaluate.command`."""

    path: str
    """The checkpoint."""
    data: str | None
    split: str
    batch_size: int
    device: str
    mean_over: str
    boundary: str | None
    json: Path | None
    report: Path | None
    submission: str | None
    submission_file: Path | None
    sheet: Path | None
    count: int
    """Images on the sheet."""
    how: Asked
