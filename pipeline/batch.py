"""What the pipeline hands over."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch


@dataclass(frozen=True)
class Batch:
    """B samples on the target device."""

    images: torch.Tensor
    """uint8 [B, C, H, W], channels-last strides."""
    labels: torch.Tensor | None
    """uint8 [B, H, W], 255 = ignore; None in an unlabeled split."""
    keys: list[str]
    """The samples' keys, in order."""
    skipped: dict[str, str] = field(default_factory=dict)
    """Broken samples' keys -> what is wrong with them; their image is the mean color, their label 255 throughout."""
