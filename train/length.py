"""How long a run is, in steps: the one place where epochs become steps."""

from __future__ import annotations

import math
from dataclasses import dataclass

from pipeline import plan
from train.config import Recipe, TrainConfig


@dataclass(frozen=True)
class Length:
    """Of a run, in optimizer steps."""

    total: int
    val_every: int
    """Steps between two validations."""


def of(recipe: Recipe, samples: int, global_batch: int) -> Length:
    """samples: of an epoch, at least one global batch. global_batch: crops of all ranks, before accumulation.

    An epoch is as many whole global batches as the split gives; with accumulation it may end within a step.
    """
    train = recipe.train
    epoch = plan.steps_per_epoch(samples, global_batch) / recipe.optimizer.accumulate
    total = train.steps or max(1, math.ceil(train.epochs * epoch))
    return Length(total, train.val_every_steps or max(1, round(train.val_every_epochs * epoch)))


@dataclass(frozen=True)
class Due:
    """What follows a step."""

    logs: bool
    saves: bool
    validates: bool


def due(train: TrainConfig, length: Length, step: int, validation: bool) -> Due:
    """After `step` steps. validation: whether there is a split for it. The last step always saves, and validates."""
    ends = step == length.total
    validates = validation and (ends or step % length.val_every == 0)
    saves = ends or validates or every(train.keep_every_steps, step) or every(train.save_every_steps, step)
    return Due(saves or step % train.log_every == 0, saves, validates)


def every(period: int, step: int) -> bool:
    """Whether `step` is one of every `period`; 0: none is."""
    return bool(period) and step % period == 0
