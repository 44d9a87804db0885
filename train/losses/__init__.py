"""Losses: `SegmentationLoss(LossConfig(ce=1.0, lovasz=0.5), num_classes)(logits, labels)`. One family a file.

Names are imported when first used: a recipe needs `LossConfig`, and not torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from train.losses.combined import SegmentationLoss, bad_labels
    from train.losses.config import LossConfig

__all__ = ["LossConfig", "SegmentationLoss", "bad_labels"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'train.losses' has no attribute {name!r}")
    home = "train.losses.config" if name == "LossConfig" else "train.losses.combined"
    return getattr(importlib.import_module(home), name)
