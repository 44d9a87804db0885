"""UPerNet (Xiao, Liu, Zhou, Jiang, Sun, ECCV 2018, arXiv 1807.10221), with its semantic head."""

from __future__ import annotations

import torch
from timm.layers import LayerNorm2d
from torch import Tensor, nn

from nets.blocks import conv_bn_relu, fcn_head
from nets.encoders import Encoder, EncoderOptions, Needs, encoder_of
from nets.errors import NetError
from nets.net import Net, resize_like
from nets.ppm import PyramidPooling


class UPerNet(Net):
    """A feature pyramid (strides 4 to 32) whose top is a pyramid pooling module, all levels fused at stride 4.

    66.40 M parameters with R50 and aux at 21 classes, as mmsegmentation's. segmentation_models.pytorch has 37.29 M:
    256 channels, and layer norms on the encoder's features also of a ResNet. yassouali/pytorch-segmentation's 107.13 M
    come from wider fusions.
    """

    def __init__(self, num_classes: int, encoder: Encoder, *, channels: int, norms: bool, aux: bool) -> None:
        super().__init__()
        self.encoder = encoder
        self.stride = encoder.pad_stride
        self.levels = [encoder.index_of(stride) for stride in (4, 8, 16, 32)]
        inputs = [encoder.channels[level] for level in self.levels]
        self.norms = nn.ModuleList(LayerNorm2d(c) if norms else nn.Identity() for c in inputs)
        self.pyramid = PyramidPooling(inputs[-1], channels)
        self.top = conv_bn_relu(self.pyramid.out_channels, channels)
        self.lateral = nn.ModuleList(conv_bn_relu(c, channels, 1) for c in inputs[:-1])
        self.smooth = nn.ModuleList(conv_bn_relu(channels, channels) for _ in inputs[:-1])
        self.fuse = conv_bn_relu(len(inputs) * channels, channels)
        self.classifier = nn.Sequential(nn.Dropout(0.1), nn.Conv2d(channels, num_classes, 1))
        self.aux_head = fcn_head(inputs[-2], 256, num_classes) if aux else None

    def logits(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        features = self.encoder(images)
        levels = [norm(features[level]) for norm, level in zip(self.norms, self.levels, strict=True)]
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
    encoder: EncoderOptions = EncoderOptions("resnet50"),
    *,
    aux: bool = False,
    channels: int = 512,
    norms: bool | None = None,
    drop_path: float | None = None,
) -> Net:
    """UPerNet over any timm encoder with features at strides 4, 8, 16 and 32.

    channels: of the pyramid and of the fused map.
    norms: a layer norm on each of the encoder's four feature maps; drop_path: the rate at which the encoder's deepest
    residual branch is skipped in training, falling to 0 at its first. None follows the published results: norms and
    0.3 over ConvNeXt and Swin, neither elsewhere.
    """
    published = str(encoder.backbone).startswith(("convnext", "swin"))
    drop_path = 0.3 if drop_path is None and published else drop_path
    if drop_path is not None and not 0 <= drop_path < 1:
        raise NetError(f"drop_path is {drop_path}: expected a rate from 0 to below 1, such as 0.3")
    made = encoder_of(encoder, Needs(drop_path=drop_path))
    return UPerNet(num_classes, made, channels=channels, norms=published if norms is None else norms, aux=aux)
