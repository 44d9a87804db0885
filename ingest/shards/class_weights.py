"""Class weights from a split's pixel counts: one truth for `python -m ingest stats` and for training.

With n_c the pixels of class c, p_c = n_c / sum(n), and P the classes that have any:

    inverse_frequency   1 / (|P| p_c): every class of P has the same say in sum_c p_c w_c, which is 1
    median_frequency    median over P of f / f_c, f_c the share of c among all pixels of the images that show c
                        (Eigen & Fergus 2015; SegNet). CamVid's training split: fence 1.97, bicyclist 8.86.
    enet                1 / ln(1.02 + p_c): between 1.4 and 50.5 (Paszke et al. 2016)

A class without a pixel gets 0: no target ever asks for it, and it is none of those that the weight is shared among.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence


def inverse_frequency(class_pixels: Sequence[int]) -> list[float]:
    """A weight per class; class_pixels as in `Split`, not all 0."""
    present = sum(pixels > 0 for pixels in class_pixels)
    return [1 / (present * share) if share else 0.0 for share in _shares(class_pixels)]


def median_frequency(class_pixels: Sequence[int], class_image_pixels: Sequence[int]) -> list[float]:
    """A weight per class; class_image_pixels: all pixels, ignored ones too, of the images that show each class."""
    shares = [pixels / of if pixels else 0.0 for pixels, of in zip(class_pixels, class_image_pixels, strict=True)]
    median = statistics.median(share for share in shares if share)
    return [median / share if share else 0.0 for share in shares]


def enet(class_pixels: Sequence[int]) -> list[float]:
    """A weight per class; class_pixels as in `Split`, not all 0."""
    return [1 / math.log(1.02 + share) if share else 0.0 for share in _shares(class_pixels)]


def _shares(class_pixels: Sequence[int]) -> list[float]:
    total = sum(class_pixels)
    return [pixels / total for pixels in class_pixels]
