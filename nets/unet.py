"""U-Net (Ronneberger, Fischer, Brox, MICCAI 2015): a contracting path, an expanding path, and skips between them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nets.blocks import Double, conv_bn_relu, fcn_head, init_he
from nets.encoders import Encoder, EncoderOptions, encoder_of
from nets.errors import NetError, check_choice
from nets.net import Net

FORMS = ("paper", "mmsegmentation")


class UNet(Net):
    """The paper's net: double convolutions of 64..1024 channels, 2x2 pooling, 2x2 up-convolutions.

    31.04 M parameters at 21 classes, as the paper's layers add up to. Two common changes: convolutions are padded, so
    that the output has the input's size without mirroring and tiling, and followed by batch norm. For
    form="mmsegmentation", see `unet`: 29.06 M with aux at 19 classes.
    """

    stride = 16
    widths = (64, 128, 256, 512, 1024)

    def __init__(self, num_classes: int, *, in_channels: int = 3, aux: bool = False, form: str = "paper") -> None:
        super().__init__()
        inputs = (in_channels, *self.widths)
        self.down = nn.ModuleList(_double_conv(i, o) for i, o in zip(inputs, self.widths, strict=False))
        paper = form == "paper"
        self.upconv = nn.ModuleList(
            nn.ConvTranspose2d(2 * w, w, 2, stride=2) if paper else nn.Sequential(Double(), conv_bn_relu(2 * w, w, 1))
            for w in self.widths[-2::-1]
        )
        self.up = nn.ModuleList(_double_conv(2 * w, w) for w in self.widths[-2::-1])
        self.dropout = nn.Dropout2d(0.5 if paper else 0.0)  # "at the end of the contracting path"
        last = self.widths[0]
        self.classifier = nn.Conv2d(last, num_classes, 1) if paper else fcn_head(last, last, num_classes)
        self.aux_head = fcn_head(self.widths[1], last, num_classes) if aux else None
        self.apply(init_he)  # "standard deviation sqrt(2/N)"

    def logits(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        skips = [self.down[0](images)]
        for down in self.down[1:]:
            skips.append(down(F.max_pool2d(skips[-1], 2)))
        features = self.dropout(skips.pop())
        second = features
        for upconv, up in zip(self.upconv, self.up, strict=True):
            second, features = features, up(torch.cat([skips.pop(), upconv(features)], dim=1))
        aux = self.aux_head(second) if self.aux_head is not None and self.training else None
        return self.classifier(features), aux


class UNetEncoder(Net):
    """U-Net's expanding path over a timm encoder: nearest-neighbor doubling, skip, two 3x3 convolutions.

    Widths and order as in segmentation_models.pytorch (R50, 21 classes: 32.52 M parameters in both), so that weights
    can be carried over. An encoder that starts at stride 4 (convnext, swin) has no skip at strides 2 and 1.
    """

    widths = (256, 128, 64, 32, 16)

    def __init__(self, num_classes: int, encoder: Encoder, *, aux: bool = False) -> None:
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
        self.aux_head = fcn_head(self.widths[-2], 64, num_classes) if aux else None

    def logits(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        pyramid = dict(zip(self.encoder.strides, self.encoder(images), strict=True))
        stride = self.encoder.strides[-1]
        second = features = pyramid[stride]
        for up in self.up:
            second = features
            stride //= 2
            features = F.interpolate(features, scale_factor=2.0, mode="nearest")
            if stride in pyramid:
                features = torch.cat([features, pyramid[stride]], dim=1)
            features = up(features)
        aux = self.aux_head(second) if self.aux_head is not None and self.training else None
        return self.classifier(features), aux


def unet(
    num_classes: int,
    encoder: EncoderOptions = EncoderOptions(),
    *,
    aux: bool = False,
    form: str = "paper",
) -> Net:
    """The paper's U-Net, or, with a backbone, its decoder over that timm encoder.

    aux: an auxiliary head on the second-finest map of the expanding path, as in mmsegmentation.
    form: of the net without a backbone. "mmsegmentation" doubles bilinearly before a 1x1 convolution where the paper
    has 2x2 up-convolutions, has no dropout between the paths, and a 3x3 convolution with dropout before the classifier.
    """
    check_choice("unet", "form", form, FORMS)
    if encoder.backbone is not None:
        if form != "paper":
            raise NetError(f"unet has form={form!r} only without a backbone: leave one of the two out")
        return UNetEncoder(num_classes, encoder_of(encoder), aux=aux)
    if encoder.source is not False:
        raise NetError("unet has pretrained weights only with a backbone: add one (resnet34) or leave them out")
    return UNet(num_classes, in_channels=encoder.in_channels, aux=aux, form=form)


def _double_conv(in_channels: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(conv_bn_relu(in_channels, out_channels), conv_bn_relu(out_channels, out_channels))
