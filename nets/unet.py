"""U-Net (Ronneberger, Fischer, Brox, MICCAI 2015): a contracting path, an expanding path, and skips between them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nets.blocks import conv_bn_relu, init_he
from nets.encoders import Encoder, EncoderOptions, encoder_of
from nets.errors import NetError
from nets.net import Net


class UNet(Net):
    """The paper's net: double convolutions of 64..1024 channels, 2x2 pooling, 2x2 up-convolutions.

    31.04 M parameters at 21 classes, as the paper's layers add up to. Two common changes: convolutions are padded, so
    that the output has the input's size without mirroring and tiling, and followed by batch norm.
    """

    stride = 16
    widths = (64, 128, 256, 512, 1024)

    def __init__(self, num_classes: int, *, in_channels: int = 3) -> None:
        super().__init__()
        inputs = (in_channels, *self.widths)
        self.down = nn.ModuleList(_double_conv(i, o) for i, o in zip(inputs, self.widths, strict=False))
        self.upconv = nn.ModuleList(nn.ConvTranspose2d(2 * w, w, 2, stride=2) for w in self.widths[-2::-1])
        self.up = nn.ModuleList(_double_conv(2 * w, w) for w in self.widths[-2::-1])
        self.dropout = nn.Dropout2d(0.5)  # "at the end of the contracting path"
        self.classifier = nn.Conv2d(self.widths[0], num_classes, 1)
        self.apply(init_he)  # "standard deviation sqrt(2/N)"

    def logits(self, images: Tensor) -> tuple[Tensor, None]:
        skips = [self.down[0](images)]
        for down in self.down[1:]:
            skips.append(down(F.max_pool2d(skips[-1], 2)))
        features = self.dropout(skips.pop())
        for upconv, up in zip(self.upconv, self.up, strict=True):
            features = up(torch.cat([skips.pop(), upconv(features)], dim=1))
        return self.classifier(features), None


class UNetEncoder(Net):
    """U-Net's expanding path over a timm encoder: nearest-neighbor doubling, skip, two 3x3 convolutions.

    Widths and order as in segmentation_models.pytorch (R50, 21 classes: 32.52 M parameters in both), so that weights
    can be carried over. An encoder that starts at stride 4 (convnext, swin) has no skip at strides 2 and 1.
    """

    widths = (256, 128, 64, 32, 16)

    def __init__(self, num_classes: int, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.stride = encoder.pad_stride
        skips = dict(zip(encoder.strides[:-1], encoder.channels[:-1], strict=True))
        blocks = []
        channels, stride = encoder.channels[-1], encoder.strides[-1]
        for width in self.widths[-(stride.bit_length() - 1) :]:
            stride //= 2
            skip = skips.get(stride, 0)
            blocks.append(nn.Sequential(*_double_conv(channels + skip, width)))
            channels = width
        self.up = nn.ModuleList(blocks)
        self.up.apply(init_he)
        self.classifier = nn.Conv2d(channels, num_classes, 3, padding=1)

    def logits(self, images: Tensor) -> tuple[Tensor, None]:
        pyramid = dict(zip(self.encoder.strides, self.encoder(images), strict=True))
        stride = self.encoder.strides[-1]
        features = pyramid[stride]
        for up in self.up:
            stride //= 2
            features = F.interpolate(features, scale_factor=2.0, mode="nearest")
            if stride in pyramid:
                features = torch.cat([features, pyramid[stride]], dim=1)
            features = up(features)
        return self.classifier(features), None


def unet(
    num_classes: int,
    encoder: EncoderOptions = EncoderOptions(),
) -> Net:
    """The paper's U-Net, or, with a backbone, its decoder over that timm encoder."""
    if encoder.backbone is not None:
        return UNetEncoder(num_classes, encoder_of(encoder))
    if encoder.source is not False:
        raise NetError("unet has pretrained weights only with a backbone: add one (resnet34) or leave them out")
    return UNet(num_classes, in_channels=encoder.in_channels)


def _double_conv(in_channels: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(conv_bn_relu(in_channels, out_channels), conv_bn_relu(out_channels, out_channels))
