"""The recipe's loss.class_weights, so that rare classes are heard: none, a rule over the training split, or a list.

    none | frequency | median_frequency | enet     the rules stand in ingest/shards/class_weights.py
    [w_0, w_1, ...]                                as given

A class without a pixel in the training split gets weight 0: no target ever asks for it, and label smoothing, which
spreads a little weight over all classes, must not pull towards it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ingest.errors import UserError, brief
from ingest.shards import class_weights as rules
from ingest.shards.wording import count
from pipeline import checks

NAMES = ("none", "frequency", "median_frequency", "enet")
KEY = "loss.class_weights"


def check(spec: str | Sequence[float]) -> None:
    """UserError unless spec is a known name or a list of weights >= 0, one of them above 0."""
    if isinstance(spec, str):
        checks.one_of(KEY, spec, NAMES)
    elif not isinstance(spec, Sequence) or not spec:
        raise UserError(f"{KEY} = {brief(spec)}: expected a list of weights, or one of {', '.join(NAMES)}")
    else:
        for index, weight in enumerate(spec):
            checks.number(f"{KEY}[{index}]", weight, "[0, inf)")
        if not any(spec):
            raise UserError(f"{KEY} are all 0: at least one must be above 0")


@dataclass(frozen=True)
class PixelCounts:
    """What the rules go by: the training split's counts, from dataset.json."""

    per_class: Sequence[int]
    """Pixels of each class."""
    per_class_images: Sequence[int] = ()
    """All pixels of the images that show each class; empty in shard folders that did not record it."""


def resolve(spec: str | Sequence[float], counts: PixelCounts) -> list[float] | None:
    """Spec and the training split's counts -> a weight per class, or None for "none".

    Raises UserError when the list's length is not the number of classes, when no pixel is labeled, or when the counts
    do not tell which images show a class.
    """
    check(spec)
    pixels = counts.per_class
    if not isinstance(spec, str):
        if len(spec) != len(pixels):
            raise UserError(
                f"{KEY} has {count(len(spec), 'weight')}, the dataset has {len(pixels)} classes: give one a class"
            )
        return [float(weight) for weight in spec]
    if spec == "none":
        return None
    if not sum(pixels):
        raise UserError(f"{KEY} = {spec!r}, but the training split has no labeled pixel to count: use none or a list")
    if spec == "frequency":
        return rules.inverse_frequency(pixels)
    if spec == "enet":
        return rules.enet(pixels)
    if not counts.per_class_images:
        raise UserError(
            f"{KEY} = {spec!r} goes by the images that show each class, which these shards do not record: add it with "
            "`python -m ingest reindex DIR`"
        )
    return rules.median_frequency(pixels, counts.per_class_images)


def describe(weights: Sequence[float], classes: Sequence[str], class_pixels: Sequence[int]) -> str:
    """One line for the log: each class with its weight, then the classes that the training split never shows."""
    line = "class weights: " + ", ".join(f"{name} {weight:.3g}" for name, weight in zip(classes, weights, strict=True))
    absent = [name for name, pixels in zip(classes, class_pixels, strict=True) if pixels == 0]
    return line + (f"; without a pixel in the training split: {', '.join(absent)}" if absent else "")
