"""DeepLabV3+ (Chen, Zhu, Papandreou, Schroff, Adam, ECCV 2018, arXiv 1802.02611)."""

from __future__ import annotations

import os

import torch
from torch import Tensor, nn

from nets.aspp import ASPP
from nets.blocks import conv_bn_relu, fcn_head, separable_conv_bn_relu
from nets.encoders import Encoder
from nets.net import Net, resize_like


class DeepLabV3Plus(Net):
    """A dilated encoder, ASPP on its last features, and a decoder that adds detail from stride 4.

    40.35 M parameters with R50 at 21 classes, as the predecessor.
    """

    def __init__(self, num_classes: int, encoder: Encoder, *, separable: bool, aux: bool) -> None:
        super().__init__()
        self.encoder = encoder
        self.stride = encoder.pad_stride
        self.detail = encoder.index_of(4)
        # section 4: 6, 12, 18 at output stride 16; the same reach in pixels at others
        rates = tuple(rate * 16 // encoder.strides[-1] for rate in (6, 12, 18))
        conv = separable_conv_bn_relu if separable else conv_bn_relu
        self.aspp = ASPP(encoder.channels[-1], 256, rates, separable=separable)
        # section 4.1: 48 channels from stride 4, then two 3x3 convolutions of 256
        self.reduce = conv_bn_relu(encoder.channels[self.detail], 48, 1)
        self.refine = nn.Sequential(conv(256 + 48, 256), conv(256, 256), nn.Dropout(0.1))
        self.classifier = nn.Conv2d(256, num_classes, 1)
        self.aux_head = fcn_head(encoder.channels[-2], 256, num_classes) if aux else None

    def logits(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        features = self.encoder(images)
        detail = self.reduce(features[self.detail])
        context = resize_like(self.aspp(features[-1]), detail)
        out = self.classifier(self.refine(torch.cat([context, detail], dim=1)))
        aux = self.aux_head(features[-2]) if self.aux_head is not None and self.training else None
        return out, aux


def deeplabv3plus(
    num_classes: int,
    *,
    backbone: str = "resnet50",
    pretrained: bool = False,
    backbone_weights: str | os.PathLike[str] | None = None,
    in_channels: int = 3,
    output_stride: int | None = None,
    aux: bool = False,
    separable: bool = False,
) -> Net:
    """DeepLabV3+ over any timm encoder with features of stride 4; "xception65" is the paper's aligned Xception.

    output_stride: 16 (the paper's for training) or 8; None is 16 where the encoder can be dilated, else its own.
    separable: depthwise separable convolutions in ASPP and decoder, as the paper has with Xception.
    """
    encoder = Encoder(
        backbone,
        in_channels=in_channels,
        output_stride=output_stride,
        prefer_stride=16,
        pretrained=pretrained,
        weights=backbone_weights,
    )
    return DeepLabV3Plus(num_classes, encoder, separable=separable, aux=aux)
