"""A net that sees images at another size than they are scored at: `data.val_size`.

A net trained on images of half their size knows things at that size. Scored at full size it sees everything twice as
large: so images are scaled down before it and its logits scaled up behind it, and the labels stay as they are.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.config import DataConfig


def scaled_size(height: int, width: int, size: int, side: str) -> tuple[int, int]:
    """Height and width after scaling so that the longer or shorter side has `size` pixels; 0: as they are."""
    if not size:
        return height, width
    scale = size / (max if side == "longer" else min)(height, width)
    return max(1, round(height * scale)), max(1, round(width * scale))


class AtSize(nn.Module):
    """images [N,C,H,W] uint8 or float 0..255 -> logits [N,K,H,W] of the net that is shown them at another size."""

    def __init__(self, net: nn.Module, size: int, side: str) -> None:
        super().__init__()
        self.net, self.size, self.side = net, size, side
        self.train(net.training)

    def forward(self, images: Tensor) -> Tensor:
        full = images.shape[-2:]
        target = scaled_size(full[0], full[1], self.size, self.side)
        if target == tuple(full):
            return self.net(images)
        # antialias: an image that is scaled down is averaged, as the training crops are
        scaled = F.interpolate(images.float(), size=target, mode="bilinear", align_corners=False, antialias=True)
        logits = self.net(scaled.contiguous(memory_format=torch.channels_last))
        return F.interpolate(logits.float(), size=full, mode="bilinear", align_corners=False)


def at_size(net: nn.Module, data: DataConfig) -> nn.Module:
    """The net as the recipe's `data` section wants it scored."""
    return AtSize(net, data.val_size, data.val_side) if data.val_size else net
