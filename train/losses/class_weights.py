"""Class weights from the training split's pixel counts, so that rare classes are heard.

With n_c the pixels of class c in the training split, p_c = n_c / sum(n), and P the classes with n_c > 0:

    none              1 for every class
    frequency         1 / (|P| p_c): every class has the same say in sum_c p_c w_c, which is 1
    median_frequency  median over P of p / p_c (Eigen & Fergus 2015, section 6.3.2). The paper takes the share of c
                      among the pixels of the images that show c; `dataset.json` counts pixels over the whole split,
                      so p_c is taken there. Classes that many images lack come out somewhat heavier.
    enet              1 / ln(1.02 + p_c): between 1.4 and 50.5 (Paszke et al. 2016, section 5.2)
    [w_0, w_1, ...]   as given

A class without a pixel in the training split gets weight 0: no target ever asks for it, and label smoothing, which
spreads a little weight over all classes, must not pull towards it.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from ingest.errors import UserError, brief
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


def resolve(spec: str | Sequence[float], class_pixels: Sequence[int]) -> list[float] | None:
    """Spec and the training split's `class_pixels` -> a weight per class, or None for "none".

    Raises UserError when the list's length is not the number of classes, or when no pixel is labeled.
    """
    check(spec)
    if not isinstance(spec, str):
        if len(spec) != len(class_pixels):
            raise UserError(
                f"{KEY} has {len(spec)} weights, the dataset has {len(class_pixels)} classes: give one a class"
            )
        return [float(weight) for weight in spec]
    if spec == "none":
        return None
    total = sum(class_pixels)
    if total == 0:
        raise UserError(f"{KEY} is {spec!r}, but the training split has no labeled pixel to count: use none or a list")
    shares = [pixels / total for pixels in class_pixels]
    present = [share for share in shares if share > 0]
    if spec == "frequency":
        return [1 / (len(present) * share) if share else 0.0 for share in shares]
    if spec == "median_frequency":
        median = statistics.median(present)
        return [median / share if share else 0.0 for share in shares]
    return [1 / math.log(1.02 + share) if share else 0.0 for share in shares]


def describe(weights: Sequence[float], classes: Sequence[str], class_pixels: Sequence[int]) -> str:
    """One line for the log: each class with its weight, then the classes that the training split never shows."""
    line = "class weights: " + ", ".join(f"{name} {weight:.3g}" for name, weight in zip(classes, weights, strict=True))
    absent = [name for name, pixels in zip(classes, class_pixels, strict=True) if pixels == 0]
    return line + (f"; without a pixel in the training split: {', '.join(absent)}" if absent else "")
