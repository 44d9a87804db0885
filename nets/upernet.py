"""UPerNet (Xiao, Liu, Zhou, Jiang, Sun, ECCV 2018, arXiv 1807.10221), with its semantic head."""

from __future__ import annotations

import os

import torch
from torch import Tensor, nn

from nets.blocks import conv_bn_relu, fcn_head
from nets.encoders import Encoder
from nets.net import Net, resize_like
from nets.ppm import PyramidPooling


class UPerNet(Net):
    """A feature pyramid (strides 4 to 32) whose top is a pyramid pooling module, all levels fused at stride 4.

    66.40 M parameters with R50 and aux at 21 classes, as mmsegmentation's. segmentation_models.pytorch has 37.29 M:
    256 channels, and layer norms on the encoder's features that the paper does not have. The predecessor's 107.13 M
    come from wider fusions.
    """

    def __init__(self, num_classes: int, encoder: Encoder, *, channels: int, aux: bool) -> None:
        super().__init__()
        self.encoder = encoder
        self.stride = encoder.pad_stride
        self.levels = [encoder.index_of(stride) for stride in (4, 8, 16, 32)]
        inputs = [encoder.channels[level] for level in self.levels]
        self.pyramid = PyramidPooling(inputs[-1], channels)
        self.top = conv_bn_relu(self.pyramid.out_channels, channels)
        self.lateral = nn.ModuleList(conv_bn_relu(c, channels, 1) for c in inputs[:-1])
        self.smooth = nn.ModuleList(conv_bn_relu(channels, channels) for _ in inputs[:-1])
        self.fuse = conv_bn_relu(len(inputs) * channels, channels)
        self.classifier = nn.Sequential(nn.Dropout(0.1), nn.Conv2d(channels, num_classes, 1))
        self.aux_head = fcn_head(inputs[-2], 256, num_classes) if aux else None

    def logits(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        features = self.encoder(images)
        levels = [features[level] for level in self.levels]
        pyramid = [self.top(self.pyramid(levels[-1]))]
        for lateral, level in zip(reversed(self.lateral), reversed(levels[:-1]), strict=True):
            side = lateral(level)
            pyramid.insert(0, side + resize_like(pyramid[0], side))
        pyramid[:-1] = [smooth(level) for smooth, level in zip(self.smooth, pyramid[:-1], strict=True)]
        fused = self.fuse(torch.cat([pyramid[0], *(resize_like(level, pyramid[0]) for level in pyramid[1:])], dim=1))
        aux = self.aux_head(levels[-2]) if self.aux_head is not None and self.training else None
        return self.classifier(fused), aux


def upernet(
    num_classes: int,
    *,
    backbone: str = "resnet50",
    pretrained: bool = False,
    backbone_weights: str | os.PathLike[str] | None = None,
    in_channels: int = 3,
    aux: bool = False,
    channels: int = 512,
) -> Net:
    """UPerNet over any timm encoder with features at strides 4, 8, 16 and 32.

    channels: of the pyramid and of the fused map.
    """
    encoder = Encoder(backbone, in_channels=in_channels, pretrained=pretrained, weights=backbone_weights)
    return UPerNet(num_classes, encoder, channels=channels, aux=aux)
