"""Pieces that several nets share."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def conv_bn_relu(
    in_channels: int,
    out_channels: int,
    kernel_size: int = 3,
    *,
    stride: int = 1,
    dilation: int = 1,
) -> nn.Sequential:
    """Convolution without bias (the norm has one), batch norm, ReLU; the size stays, but for the stride."""
    return nn.Sequential(
        nn.Conv2d(
            in_channels,
            out_channels,
            kernel_size,
            stride=stride,
            padding=dilation * (kernel_size // 2),
            dilation=dilation,
            bias=False,
        ),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    )


def separable_conv_bn_relu(
    in_channels: int, out_channels: int, *, dilation: int = 1, norm_between: bool = True
) -> nn.Sequential:
    """3x3 depthwise, then 1x1 pointwise convolution, batch norm, ReLU.

    norm_between: batch norm and ReLU after the depthwise convolution, too, as in DeepLabV3+'s released code and in
    mmsegmentation; segmentation_models.pytorch has none there.
    """
    depthwise = nn.Conv2d(
        in_channels, in_channels, 3, padding=dilation, dilation=dilation, groups=in_channels, bias=False
    )
    between = [nn.BatchNorm2d(in_channels), nn.ReLU(inplace=True)] if norm_between else []
    return nn.Sequential(depthwise, *between, *conv_bn_relu(in_channels, out_channels, 1))


def fcn_head(in_channels: int, hidden_channels: int, num_classes: int) -> nn.Sequential:
    """3x3 convolution, dropout, 1x1 classifier: the auxiliary head of PSPNet and after it of everyone."""
    return nn.Sequential(
        *conv_bn_relu(in_channels, hidden_channels),
        nn.Dropout(0.1),
        nn.Conv2d(hidden_channels, num_classes, 1),
    )


class ConcatHead(nn.Module):
    """FCN's head in mmsegmentation: two 3x3 convolutions, a third over them and their input, dropout, classifier."""

    def __init__(self, in_channels: int, hidden_channels: int, num_classes: int) -> None:
        super().__init__()
        self.convs = nn.Sequential(
            conv_bn_relu(in_channels, hidden_channels), conv_bn_relu(hidden_channels, hidden_channels)
        )
        self.join = conv_bn_relu(in_channels + hidden_channels, hidden_channels)
        self.classifier = nn.Sequential(nn.Dropout(0.1), nn.Conv2d(hidden_channels, num_classes, 1))

    def forward(self, features: Tensor) -> Tensor:
        """[N, in_channels, h, w] -> [N, num_classes, h, w]."""
        return self.classifier(self.join(torch.cat([features, self.convs(features)], dim=1)))


def init_he(module: nn.Module) -> None:
    """He et al. 2015 for convolutions followed by ReLU: normal with variance 2 / fan_in; biases 0. For `apply`."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu")
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def init_zero(module: nn.Module) -> None:
    """Zero weights and biases of a convolution. For `apply`."""
    if isinstance(module, nn.Conv2d):
        nn.init.zeros_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


class Double(nn.Module):
    """Bilinear, to twice the height and width."""

    def forward(self, features: Tensor) -> Tensor:
        return F.interpolate(features, scale_factor=2.0, mode="bilinear", align_corners=False)


def to_channels_last(features: Tensor) -> Tensor:
    """The same values with channels last in memory."""
    return features.contiguous(memory_format=torch.channels_last)


class BilinearDeconv(nn.ConvTranspose2d):
    """To twice the height and width by a learned 4x4 transposed convolution that starts as bilinear, as in FCN.

    Starts with no mixing of channels; differs from `Double` on the outermost pixels only, where it takes what is
    outside as zero.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels, 4, stride=2, padding=1, bias=False)

    def reset_parameters(self) -> None:
        ramp = torch.tensor([0.25, 0.75, 0.75, 0.25])
        with torch.no_grad():
            self.weight.zero_()
            self.weight.diagonal(dim1=0, dim2=1).copy_(torch.outer(ramp, ramp)[..., None])
