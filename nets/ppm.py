"""The pyramid pooling module of PSPNet (Zhao et al., arXiv 1612.01105), also at the top of UPerNet's pyramid."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from nets.blocks import conv_bn_relu
from nets.net import spread_like


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
            maps.append(spread_cells(branch(means), features) if bins > 1 else spread_like(branch(means), features))
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


def spread_cells(cells: Tensor, other: Tensor) -> Tensor:
    """cells [N,C,b,b] -> [N,C,h,w], h and w those of `other`: bilinear, as F.interpolate with align_corners=False.

    As two small matrix products. F.interpolate's gradient on a GPU adds up a cell's pixels one by one with atomics,
    under autocast in bfloat16: with hundreds of pixels per cell the running sum stops growing. Matrix products add in
    float32. Works in and returns channels-last.
    """
    height, width = other.shape[-2:]
    rows = cells.permute(0, 2, 3, 1)  # [N,b,b,C]
    # [w, b] @ [N,b,b,C]
    wide = torch.matmul(_interpolating(width, cells.shape[-1], cells), rows)
    # [h, b] @ [N, b, w*C]
    spread = torch.matmul(_interpolating(height, cells.shape[-2], cells), wide.flatten(2))
    return spread.unflatten(2, (width, -1)).permute(0, 3, 1, 2)


def _interpolating(size: int, bins: int, like: Tensor) -> Tensor:
    """[size, bins]: row i weighs the bins whose centers lie left and right of pixel i's center; at the ends, one."""
    # in units of 1 / (2 size) of a bin, so that all is exact up to the one division
    center = (2 * torch.arange(size, device=like.device) + 1) * bins - size
    center = center.clamp(0, 2 * size * (bins - 1))
    distance = (center[:, None] - 2 * size * torch.arange(bins, device=like.device)).abs()
    return (1 - distance / (2 * size)).clamp_min(0).to(like.dtype)


def _averaging(bins: int, size: int, like: Tensor) -> Tensor:
    """[bins, size]: row i averages the pixels from floor(i * size / bins) to ceil((i + 1) * size / bins)."""
    index = torch.arange(bins, device=like.device)[:, None]
    start = index * size // bins
    stop = ((index + 1) * size + bins - 1) // bins
    pixel = torch.arange(size, device=like.device)
    inside = (pixel >= start) & (pixel < stop)
    return inside.to(like.dtype) / (stop - start).to(like.dtype)
