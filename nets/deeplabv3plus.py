"""DeepLabV3+ (Chen, Zhu, Papandreou, Schroff, Adam, ECCV 2018, arXiv 1802.02611)."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nets.aspp import ASPP
from nets.blocks import conv_bn_relu, fcn_head, separable_conv_bn_relu
from nets.encoders import DilatedOptions, Encoder, Needs, encoder_of
from nets.errors import check_choice
from nets.net import Net, resize_like

WIDTHS = {"paper": 256, "mmsegmentation": 512}  # channels of ASPP and decoder in each form


@dataclass(frozen=True)
class Head:
    """What ASPP and decoder are made of; see `deeplabv3plus` for the options of these names."""

    form: str
    separable: bool
    separable_norm: bool
    aux: bool


class DeepLabV3Plus(Net):
    """A dilated encoder, ASPP on its last features, and a decoder that adds detail from stride 4.

    40.35 M parameters with R50 at 21 classes, as yassouali/pytorch-segmentation's; 43.58 M as mmsegmentation's, with
    separable, aux and in its form at 19 classes.
    """

    def __init__(self, num_classes: int, encoder: Encoder, head: Head) -> None:
        super().__init__()
        self.encoder = encoder
        self.stride = encoder.pad_stride
        self.detail = encoder.index_of(4)
        # 6, 12, 18 at output stride 16; the same reach in pixels at others
        rates = tuple(rate * 16 // encoder.strides[-1] for rate in (6, 12, 18))
        width, separable, between = WIDTHS[head.form], head.separable, head.separable_norm
        conv = functools.partial(separable_conv_bn_relu, norm_between=between) if separable else conv_bn_relu
        self.aspp = ASPP(
            encoder.channels[-1],
            width,
            rates,
            separable=separable,
            norm_between=between,
            form=head.form,
        )
        # 48 channels from stride 4, then two 3x3 convolutions
        self.reduce = conv_bn_relu(encoder.channels[self.detail], 48, 1)
        self.refine = nn.Sequential(conv(width + 48, width), conv(width, width), nn.Dropout(0.1))
        self.classifier = nn.Conv2d(width, num_classes, 1)
        self.aux_head = fcn_head(encoder.channels[-2], 256, num_classes) if head.aux else None

    def logits(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        features = self.encoder(images)
        detail = self.reduce(features[self.detail])
        context = resize_like(self.aspp(features[-1]), detail)
        out = self.classifier(self.refine(torch.cat([context, detail], dim=1)))
        aux = self.aux_head(features[-2]) if self.aux_head is not None and self.training else None
        return out, aux


def deeplabv3plus(
    num_classes: int,
    encoder: DilatedOptions = DilatedOptions("resnet50"),
    *,
    aux: bool = False,
    separable: bool = False,
    separable_norm: bool = True,
    form: str = "paper",
) -> Net:
    """DeepLabV3+ over any timm encoder with features of stride 4; "xception65" is the paper's aligned Xception.

    output_stride: 16 (the paper's for training) or 8; None is 16 where the encoder can be dilated, else its own.
    separable: depthwise separable convolutions in ASPP and decoder, as the paper has with Xception.
    separable_norm: batch norm and ReLU between their depthwise and pointwise parts, as in the authors' released code;
    false leaves them out, as segmentation_models.pytorch does.
    form: "paper" has 256 channels in ASPP and decoder and joins ASPP's branches by a 1x1 convolution with dropout of
    0.5 behind it, as torchvision does, too; "mmsegmentation" has 512 channels and a 3x3 one without.
    """
    check_choice("deeplabv3plus", "form", form, WIDTHS)
    made = encoder_of(encoder, Needs(prefer_stride=16))
    return DeepLabV3Plus(num_classes, made, Head(form, separable, separable_norm, aux))
