"""The pyramid pooling module of PSPNet (arXiv 1612.01105, section 3.2), also on top of UPerNet's FPN."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from nets.blocks import conv_bn_relu
from nets.net import resize_like, spread_like


class PyramidPooling(nn.Module):
    """Averages over 1x1, 2x2, 3x3 and 6x6 regions, each through a 1x1 convolution, back to the input's size.

    Returns them behind the input: [N, in_channels + len(bins) * out_channels, h, w].
    """

    def __init__(self, in_channels: int, out_channels: int, bins: Sequence[int] = (1, 2, 3, 6)) -> None:
        super().__init__()
        self.bins = tuple(bins)
        self.branches = nn.ModuleList(conv_bn_relu(in_channels, out_channels, 1) for _ in bins)
        self.out_channels = in_channels + len(self.bins) * out_channels

    def forward(self, features: Tensor) -> Tensor:
        pooled = region_means(features, self.bins)
        maps = []
        for bins, branch, means in zip(self.bins, self.branches, pooled, strict=True):
            maps.append(resize_like(branch(means), features) if bins > 1 else spread_like(branch(means), features))
        return torch.cat([features, *maps], dim=1)


def region_means(features: Tensor, bins: Sequence[int]) -> list[Tensor]:
    """features [N,C,h,w] -> per b of bins the b x b region means [N,C,b,b], as AdaptiveAvgPool2d(b) gives.

    As two small matrix products, not as adaptive pooling: that cannot be exported with dynamic height and width, and
    reads the features once per bin; this reads them once for all. Works in and returns channels-last.
    """
    height, width = features.shape[-2:]
    rows = features.permute(0, 2, 3, 1)  # [N,h,w,C]
    # [sum(bins), w] @ [N,h,w,C]
    by_column = torch.matmul(torch.cat([_averaging(b, width, features) for b in bins]), rows)
    means = []
    for b, strip in zip(bins, by_column.split(list(bins), dim=2), strict=True):
        # [b, h] @ [N, h, b*C]
        cells = torch.matmul(_averaging(b, height, features), strip.flatten(2))
        means.append(cells.unflatten(2, (b, -1)).permute(0, 3, 1, 2))
    return means


def _averaging(bins: int, size: int, like: Tensor) -> Tensor:
    """[bins, size]: row i averages the pixels from floor(i * size / bins) to ceil((i + 1) * size / bins)."""
    index = torch.arange(bins, device=like.device)[:, None]
    start = index * size // bins
    stop = ((index + 1) * size + bins - 1) // bins
    pixel = torch.arange(size, device=like.device)
    inside = (pixel >= start) & (pixel < stop)
    return inside.to(like.dtype) / (stop - start).to(like.dtype)
