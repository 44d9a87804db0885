"""2x2 max pooling that remembers where the maxima were, and unpooling that puts values back there (SegNet, ENet).

torch's max_unpool2d scatters: not deterministic on a GPU, not exported to ONNX. Non-overlapping 2x2 windows need
no scatter, only one of four positions a window: a switch (Zeiler's word) of one byte.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def max_pool(features: Tensor) -> tuple[Tensor, Tensor]:
    """features [N,C,H,W], H and W even -> maxima [N,C,H/2,W/2], switches uint8 0..3 (row by row in the window)."""
    with torch.no_grad():
        a, b = features[..., ::2, ::2], features[..., ::2, 1::2]
        c, d = features[..., 1::2, ::2], features[..., 1::2, 1::2]
        lower = _exceeds(torch.maximum(c, d), torch.maximum(a, b))
        switches = torch.where(lower, 2 + _exceeds(d, c).to(torch.uint8), _exceeds(b, a).to(torch.uint8))
    return F.max_pool2d(features, 2), switches


def _exceeds(later: Tensor, earlier: Tensor) -> Tensor:
    """later > earlier; on a tie the first of a window stays, as in max_pool2d.

    In flat regions (sky, padding) values tie but for the last bits, which differ from runtime to runtime and would move
    what is unpooled by a pixel: a ten-thousandth counts as a tie.
    """
    return later > earlier + 1e-4 * earlier.abs()


def max_unpool(features: Tensor, switches: Tensor) -> Tensor:
    """features [N,C,h,w] -> [N,C,2h,2w]: each value at its switch's place in its window, zero elsewhere."""
    height, width = 2 * features.shape[-2], 2 * features.shape[-1]
    spread = F.interpolate(features, size=(height, width), mode="nearest")
    chosen = F.interpolate(switches, size=(height, width), mode="nearest")
    rows = torch.arange(height, device=features.device) % 2
    columns = torch.arange(width, device=features.device) % 2
    place = (2 * rows[:, None] + columns).to(torch.uint8)
    return torch.where(chosen == place, spread, 0)
