"""What an evaluation found, as a table for the terminal and as plain values for JSON."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from ingest.shards.wording import count
from train.evaluate.boundary import BoundaryScores
from train.evaluate.calibration import Reliability
from train.evaluate.evaluation import Evaluation
from train.evaluate.per_image import Interval


@dataclass(frozen=True)
class Extras:
    """What was measured beside the confusion matrix."""

    intervals: dict[str, Interval]
    """95% intervals, by the score's name."""
    calibration: Reliability | None = None
    boundary: BoundaryScores | None = None


def table(evaluation: Evaluation, classes: list[str], extras: Extras | None = None) -> str:
    """Per-class scores, their means and the speed, for a terminal. extras: more columns and lines."""
    scores = evaluation.scores
    width = max(len(name) for name in [*classes, "mean class accuracy"])
    columns = {"IoU": scores.iou}
    if extras is not None:
        columns |= {"Dice": scores.dice, "recall": scores.class_accuracy}
        columns |= {"b.IoU": extras.boundary.iou, "b.F": extras.boundary.f} if extras.boundary else {}
    lines = [f"{'class':<{width}}  " + "  ".join(f"{name:>6}" for name in columns)]
    for c, name in enumerate(classes):
        lines.append(f"{name:<{width}}  " + "  ".join(_percent(values[c]) for values in columns.values()))
    lines.append("-" * (width + 8 * len(columns)))
    over = _over(scores.counted, len(classes))
    shown = sum(accuracy is not None for accuracy in scores.class_accuracy)
    means = [
        ("mIoU", scores.miou, _interval(extras, "miou") + over),
        ("pixel accuracy", scores.pixel_accuracy, _interval(extras, "pixel_accuracy")),
        ("mean class accuracy", scores.mean_class_accuracy, _over(shown, len(classes))),
    ]
    if extras is not None:
        means += [("mean Dice", scores.mean_dice, over), ("freq.-weighted IoU", scores.fw_iou, "")]
        if extras.boundary:
            wide = f"  (within {extras.boundary.width})"
            means += [("boundary mIoU", extras.boundary.mean_iou, wide), ("boundary F", extras.boundary.mean_f, wide)]
        if extras.calibration:
            means.append(("calibration error", extras.calibration.ece, "  (expected, 0 is best)"))
    lines += [f"{name:<{width}}  {_percent(value)}{more}" for name, value, more in means]
    speed = f"{evaluation.images_per_second:6.1f}  ({count(evaluation.images, 'image')})"
    return "\n".join([*lines, f"{'images/s':<{width}}  {speed}"])


def as_json(evaluation: Evaluation, classes: list[str], extras: Extras | None = None) -> dict[str, Any]:
    """The same as plain values; an IoU is null where the class occurs neither in labels nor predictions."""
    scores = evaluation.scores
    found: dict[str, Any] = {
        "miou": scores.miou,
        "miou_classes": scores.counted,
        "pixel_accuracy": scores.pixel_accuracy,
        "mean_class_accuracy": scores.mean_class_accuracy,
        "mean_dice": scores.mean_dice,
        "frequency_weighted_iou": scores.fw_iou,
        "loss": evaluation.loss if evaluation.loss is not None and math.isfinite(evaluation.loss) else None,
        "iou": dict(zip(classes, scores.iou, strict=True)),
        "dice": dict(zip(classes, scores.dice, strict=True)),
        "class_accuracy": dict(zip(classes, scores.class_accuracy, strict=True)),
        "confusion": scores.matrix,
        "images": evaluation.images,
        "images_per_second": evaluation.images_per_second,
    }
    if extras is None:
        return found
    found["interval_95"] = {name: [interval.low, interval.high] for name, interval in extras.intervals.items()}
    if extras.calibration:
        found["calibration"] = asdict(extras.calibration)
    if extras.boundary:
        named = {name: dict(zip(classes, getattr(extras.boundary, name), strict=True)) for name in ("iou", "f")}
        found["boundary"] = asdict(extras.boundary) | named
    return found


def _interval(extras: Extras | None, name: str) -> str:
    if extras is None or name not in extras.intervals:
        return ""
    interval = extras.intervals[name]
    return f"  (95%: {100 * interval.low:.2f} to {100 * interval.high:.2f})"


def _over(counted: int, classes: int) -> str:
    """What a mean is over, where that is not all classes."""
    return "" if counted == classes else f"  (over {counted} of {count(classes, 'class', 'classes')})"


def _percent(value: float | None) -> str:
    return f"{'-':>6}" if value is None else f"{100 * value:6.2f}"
