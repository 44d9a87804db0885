"""Learning rate and momentum as pure functions of the step: nothing to save, nothing to restore.

Step s of T (s = 0 for the first update) has the learning rate `optimizer.lr * lr_factor(config, s, T)`:

    poly      (1 - s/T)^power                                     Caffe's DeepLab; PSPNet and most since
    cosine    (1 + cos(pi s/T)) / 2                               Loshchilov & Hutter 2017
    constant  1
    onecycle  1/start -> 1 in a line over the first `rise` of the steps, then a half cosine down to 1/end, reached
              at the last step; momentum mirrors it, high -> low -> high    Smith & Topin 2017

poly and cosine end at `min_factor` instead of 0 if told so. With warm-up the factor climbs in a line over
`warmup_steps`, and the curve runs over the steps that are left.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, field

from ingest.errors import UserError, brief
from pipeline import checks
from train.log import charts

NAMES = ("poly", "onecycle", "cosine", "constant")


@dataclass
class ScheduleConfig:
    """The recipe's `schedule` section."""

    name: str = "poly"
    """poly | onecycle | cosine | constant."""

    power: float = 0.9
    """poly: the exponent."""

    min_factor: float = 0.0
    """poly, cosine: the factor at the end, in [0, 1)."""

    warmup_steps: int = 0
    """Steps of linear warm-up before the curve. onecycle has its own rise instead."""

    onecycle_start: float = 10.0
    """onecycle: starts at the learning rate divided by this."""

    onecycle_rise: float = 0.3
    """onecycle: the share of the steps that rises, in (0, 1)."""

    onecycle_end: float = 25.0
    """onecycle: ends at the learning rate divided by this."""

    onecycle_momentum: list[float] = field(default_factory=lambda: [0.95, 0.85])
    """onecycle: momentum (AdamW: beta1) at both ends, and at the peak. An empty list leaves the optimizer's alone."""

    def __post_init__(self) -> None:
        checks.one_of("schedule.name", self.name, NAMES)
        checks.number("schedule.power", self.power, "(0, inf)")
        checks.number("schedule.min_factor", self.min_factor, "[0, 1)")
        checks.whole("schedule.warmup_steps", self.warmup_steps, 0)
        checks.number("schedule.onecycle_start", self.onecycle_start, "[1, inf)")
        checks.number("schedule.onecycle_rise", self.onecycle_rise, "(0, 1)")
        checks.number("schedule.onecycle_end", self.onecycle_end, "[1, inf)")
        if len(self.onecycle_momentum) not in (0, 2):
            raise UserError(
                f"schedule.onecycle_momentum = {brief(self.onecycle_momentum)}: expected two numbers, [at the ends, at "
                "the peak], or an empty list"
            )
        for index, momentum in enumerate(self.onecycle_momentum):
            checks.number(f"schedule.onecycle_momentum[{index}]", momentum, "[0, 1)")
        if self.name == "onecycle" and self.warmup_steps:
            raise UserError(
                f"schedule.warmup_steps = {self.warmup_steps}, but onecycle rises by itself: set it to 0 and use "
                "schedule.onecycle_rise"
            )


def lr_factor(config: ScheduleConfig, step: int, total_steps: int) -> float:
    """What step `step`, 0 <= step < total_steps, multiplies the base learning rate with. Above 0 for each of them."""
    if config.name == "onecycle":
        return _onecycle(config, step, total_steps, 1 / config.onecycle_start, 1.0, 1 / config.onecycle_end)
    if step < config.warmup_steps:
        return (step + 1) / (config.warmup_steps + 1)
    if config.name == "constant":
        return 1.0
    done = min(1.0, (step - config.warmup_steps) / max(1, total_steps - config.warmup_steps))
    curve = (1 - done) ** config.power if config.name == "poly" else (1 + math.cos(math.pi * done)) / 2
    return config.min_factor + (1 - config.min_factor) * curve


def momentum_at(config: ScheduleConfig, step: int, total_steps: int) -> float | None:
    """Momentum (AdamW: beta1) of step `step`, or None where the optimizer keeps its own."""
    if config.name != "onecycle" or not config.onecycle_momentum:
        return None
    ends, peak = config.onecycle_momentum
    return _onecycle(config, step, total_steps, ends, peak, ends)


def _onecycle(config: ScheduleConfig, step: int, total_steps: int, start: float, peak: float, end: float) -> float:
    """start -> peak in a line, then peak -> end in a half cosine that arrives at the last step."""
    last = max(1, total_steps - 1)
    top = config.onecycle_rise * last
    if step < top:
        return start + (peak - start) * step / top
    done = min(1.0, (step - top) / (last - top))
    return end + (peak - end) * (1 + math.cos(math.pi * done)) / 2


def plot(config: ScheduleConfig, base_lr: float, total_steps: int, path: str | os.PathLike[str]) -> None:
    """Draws the learning rate over the steps, and the momentum where it is scheduled, to a PNG."""
    # 1,000 points are more than the picture has columns
    steps = sorted({round(i * (total_steps - 1) / 999) for i in range(1000)})
    rates = [base_lr * lr_factor(config, step, total_steps) for step in steps]
    panels = [charts.Panel(f"learning rate: {config.name}, base {base_lr:g}", steps, rates)]
    momenta = [momentum for step in steps if (momentum := momentum_at(config, step, total_steps)) is not None]
    if momenta:
        panels.append(charts.Panel("momentum", steps, momenta))
    charts.draw(panels, path, x_label="step")
