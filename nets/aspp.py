"""Atrous spatial pyramid pooling (Chen et al., DeepLabV3, arXiv 1706.05587)."""

from __future__ import annotations

import functools

import torch
from torch import Tensor, nn

from nets.blocks import conv_bn_relu, separable_conv_bn_relu
from nets.net import spread_like


class ASPP(nn.Module):
    """1x1, three dilated 3x3 and global pooling side by side, joined by a 1x1 convolution.

    rates: of the 3x3 convolutions; the paper has 6, 12, 18 at output stride 16 and twice that at 8.
    separable: depthwise separable 3x3 convolutions (DeepLabV3+, arXiv 1802.02611); norm_between: see
    `separable_conv_bn_relu`. form: "paper" joins them as above, with dropout of 0.5; "mmsegmentation" by a 3x3
    convolution without.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        rates: tuple[int, ...],
        *,
        separable: bool = False,
        norm_between: bool = True,
        form: str = "paper",
    ) -> None:
        super().__init__()
        conv = functools.partial(separable_conv_bn_relu, norm_between=norm_between) if separable else conv_bn_relu
        self.branches = nn.ModuleList([conv_bn_relu(in_channels, out_channels, 1)])
        self.branches.extend(conv(in_channels, out_channels, dilation=rate) for rate in rates)
        self.pool = conv_bn_relu(in_channels, out_channels, 1)
        kernel, dropout = (1, 0.5) if form == "paper" else (3, 0.0)
        self.project = nn.Sequential(
            *conv_bn_relu((len(rates) + 2) * out_channels, out_channels, kernel), nn.Dropout(dropout)
        )

    def forward(self, features: Tensor) -> Tensor:
        """[N, in_channels, h, w] -> [N, out_channels, h, w]."""
        maps = [branch(features) for branch in self.branches]
        maps.append(spread_like(self.pool(features.mean((2, 3), keepdim=True)), features))
        return self.project(torch.cat(maps, dim=1))
