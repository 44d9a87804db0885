"""Losses: `SegmentationLoss(LossConfig(ce=1.0, lovasz=0.5), num_classes)(logits, labels)`. One family a file."""

from train.losses.combined import SegmentationLoss, bad_labels
from train.losses.config import LossConfig

__all__ = ["LossConfig", "SegmentationLoss", "bad_labels"]
