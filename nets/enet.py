"""ENet (Paszke, Chaurasia, Kim, Culurciello, arXiv 1606.02147): a small, early-downsampling net for real time."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nets.blocks import init_he
from nets.net import Net
from nets.unpool import max_pool, max_unpool


class ENet(Net):
    """Table 1. Unpooling gets its indices from the pooling of the same size; PReLU throughout, no biases.

    0.362 M parameters at 21 classes (paper: 0.37 M; the predecessor, 0.359 M, has one PReLU slope a layer where section
    3.1 of the paper has one a feature map). The paper gives no kernel for the last full convolution: 3x3, as in
    its bottlenecks.
    """

    stride = 8

    def __init__(self, num_classes: int, *, in_channels: int = 3) -> None:
        super().__init__()
        self.initial = Initial(in_channels)
        first = self.initial.out_channels
        # section 5.2: dropout 0.01 before bottleneck2.0, 0.1 afterwards
        self.down1 = Down(first, 64, dropout=0.01)
        self.stage1 = nn.Sequential(*(Bottleneck(64, dropout=0.01) for _ in range(4)))
        self.down2 = Down(64, 128)
        self.stage2 = _context_stage()
        self.stage3 = _context_stage()
        self.up4 = Up(128, 64)
        self.stage4 = nn.Sequential(Bottleneck(64), Bottleneck(64))
        self.up5 = Up(64, first)
        self.stage5 = Bottleneck(first)
        self.classifier = nn.ConvTranspose2d(first, num_classes, 3, stride=2, padding=1, output_padding=1)
        self.apply(init_he)

    def logits(self, images: Tensor) -> tuple[Tensor, None]:
        features, switches1 = self.down1(self.initial(images))
        features, switches2 = self.down2(self.stage1(features))
        features = self.stage3(self.stage2(features))
        features = self.stage4(self.up4(features, switches2))
        features = self.stage5(self.up5(features, switches1))
        return self.classifier(features), None


def enet(num_classes: int, *, in_channels: int = 3) -> Net:
    """The paper's net; it has no separate encoder."""
    return ENet(num_classes, in_channels=in_channels)


class Initial(nn.Module):
    """Figure 2a: 13 strided 3x3 filters beside the max-pooled input; 16 maps for RGB."""

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.out_channels = 13 + in_channels
        self.conv = nn.Conv2d(in_channels, 13, 3, stride=2, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(self.out_channels)
        self.act = nn.PReLU(self.out_channels)

    def forward(self, images: Tensor) -> Tensor:
        return self.act(self.norm(torch.cat([self.conv(images), F.max_pool2d(images, 2)], dim=1)))


class Bottleneck(nn.Module):
    """Figure 2b: a residual block whose branch is regular, dilated or asymmetric; the size stays."""

    def __init__(self, channels: int, *, dilation: int = 1, asymmetric: bool = False, dropout: float = 0.1) -> None:
        super().__init__()
        inner = channels // 4
        conv: tuple[nn.Module, ...]
        if asymmetric:
            conv = (
                nn.Conv2d(inner, inner, (5, 1), padding=(2, 0), bias=False),
                nn.Conv2d(inner, inner, (1, 5), padding=(0, 2), bias=False),
            )
        else:
            conv = (nn.Conv2d(inner, inner, 3, padding=dilation, dilation=dilation, bias=False),)
        self.branch = nn.Sequential(
            *_projection(channels, inner), *conv, *_expansion(inner, channels), nn.Dropout2d(dropout)
        )
        self.act = nn.PReLU(channels)

    def forward(self, features: Tensor) -> Tensor:
        return self.act(features + self.branch(features))


class Down(nn.Module):
    """Halves the size: max pooling on the main side, a strided 2x2 projection in the branch."""

    def __init__(self, in_channels: int, out_channels: int, *, dropout: float = 0.1) -> None:
        super().__init__()
        inner = in_channels // 4
        self.branch = nn.Sequential(
            *_projection(in_channels, inner, stride=2),
            nn.Conv2d(inner, inner, 3, padding=1, bias=False),
            *_expansion(inner, out_channels),
            nn.Dropout2d(dropout),
        )
        self.missing = out_channels - in_channels  # the main side's channels are filled up with zeros
        self.act = nn.PReLU(out_channels)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        pooled, switches = max_pool(features)
        return self.act(F.pad(pooled, (0, 0, 0, 0, 0, self.missing)) + self.branch(features)), switches


class Up(nn.Module):
    """Doubles the size: projection and unpooling on the main side, a full (transposed) convolution in the branch."""

    def __init__(self, in_channels: int, out_channels: int, *, dropout: float = 0.1) -> None:
        super().__init__()
        inner = in_channels // 4
        self.main = nn.Sequential(nn.Conv2d(in_channels, out_channels, 1, bias=False), nn.BatchNorm2d(out_channels))
        self.branch = nn.Sequential(
            *_projection(in_channels, inner),
            nn.ConvTranspose2d(inner, inner, 3, stride=2, padding=1, output_padding=1, bias=False),
            *_expansion(inner, out_channels),
            nn.Dropout2d(dropout),
        )
        self.act = nn.PReLU(out_channels)

    def forward(self, features: Tensor, switches: Tensor) -> Tensor:
        return self.act(max_unpool(self.main(features), switches) + self.branch(features))


def _context_stage() -> nn.Sequential:
    """Bottlenecks 2.1 to 2.8, and 3.1 to 3.8."""
    return nn.Sequential(
        Bottleneck(128),
        Bottleneck(128, dilation=2),
        Bottleneck(128, asymmetric=True),
        Bottleneck(128, dilation=4),
        Bottleneck(128),
        Bottleneck(128, dilation=8),
        Bottleneck(128, asymmetric=True),
        Bottleneck(128, dilation=16),
    )


def _projection(in_channels: int, inner: int, *, stride: int = 1) -> tuple[nn.Module, ...]:
    """1x1, or 2x2 where it halves the size."""
    return (
        nn.Conv2d(in_channels, inner, stride, stride=stride, bias=False),
        nn.BatchNorm2d(inner),
        nn.PReLU(inner),
    )


def _expansion(inner: int, out_channels: int) -> tuple[nn.Module, ...]:
    return (
        nn.BatchNorm2d(inner),
        nn.PReLU(inner),
        nn.Conv2d(inner, out_channels, 1, bias=False),
        nn.BatchNorm2d(out_channels),
    )
