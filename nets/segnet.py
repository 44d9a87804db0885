"""SegNet (Badrinarayanan, Kendall, Cipolla, PAMI 2017, arXiv 1511.00561): unpooling by the pooling's indices."""

from __future__ import annotations

from torch import Tensor, nn

from nets.blocks import conv_bn_relu, init_he
from nets.encoders import Encoder, EncoderOptions, encoder_of
from nets.encoders.vgg import STAGES, conv_stage, load_vgg16, vgg16_stages
from nets.net import Net
from nets.unpool import max_pool, max_unpool


class SegNet(Net):
    """VGG16's 13 convolutions with batch norm, and their mirror image.

    29.45 M parameters at 21 classes: 13 convolutions on either side, the last being the classifier. yassouali/
    pytorch-segmentation's 29.49 M have one more, of 64 channels, at full size.
    """

    stride = 32

    def __init__(self, num_classes: int, encoder: VGG16BN) -> None:
        super().__init__()
        self.encoder = encoder
        # stage i ends in as many channels as stage i - 1 of the encoder gave, so that its indices fit
        mirrored = [(*widths[1:], STAGES[i - 1][-1]) for i, widths in enumerate(STAGES)][:0:-1]
        self.up = nn.ModuleList(conv_stage(w[0], w, batch_norm=True) for w in mirrored)
        self.up.append(conv_stage(64, (64,), batch_norm=True))
        self.classifier = nn.Conv2d(64, num_classes, 3, padding=1)
        self.up.apply(init_he)  # as the paper says: the technique of He et al.
        init_he(self.classifier)

    def logits(self, images: Tensor) -> tuple[Tensor, None]:
        features, switches = self.encoder(images)
        for up in self.up:
            features = up(max_unpool(features, switches.pop()))
        return self.classifier(features), None


class VGG16BN(nn.Module):
    """Returns the last pooled features [N,512,H/32,W/32] and the switches of all five poolings, finest first."""

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.stages = vgg16_stages(in_channels, batch_norm=True)
        self.apply(init_he)

    def forward(self, images: Tensor) -> tuple[Tensor, list[Tensor]]:
        all_switches = []
        for stage in self.stages:
            images, switches = max_pool(stage(images))
            all_switches.append(switches)
        return images, all_switches


class SegNetEncoder(Net):
    """SegNet's decoder over a timm encoder (with a ResNet: yassouali/pytorch-segmentation's SegResNet).

    No features cross over, as in SegNet, only where their maxima were: encoders that stride instead of pooling have
    the switches taken from a 2x2 pooling of the feature map that they stride over. Each step: 1x1 convolution to that
    map's channels, unpooling, 3x3 convolution. 38.72 M parameters with R50 at 21 classes (SegResNet, whose decoder
    is a second ResNet: 53.56 M).
    """

    def __init__(self, num_classes: int, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.stride = encoder.pad_stride
        finer = encoder.channels[-2::-1]
        coarser = encoder.channels[:0:-1]
        self.reduce = nn.ModuleList(conv_bn_relu(c, f, 1) for c, f in zip(coarser, finer, strict=True))
        self.up = nn.ModuleList(conv_bn_relu(f, f) for f in finer)
        self.classifier = nn.Conv2d(encoder.channels[0], num_classes, 3, padding=1)
        for part in (self.reduce, self.up, self.classifier):
            part.apply(init_he)

    def logits(self, images: Tensor) -> tuple[Tensor, None]:
        pyramid = self.encoder(images)
        features = pyramid.pop()
        for reduce, up, finer in zip(self.reduce, self.up, reversed(pyramid), strict=True):
            _, switches = max_pool(finer)
            features = up(max_unpool(reduce(features), switches))
        return self.classifier(features), None


def segnet(
    num_classes: int,
    encoder: EncoderOptions = EncoderOptions(),
) -> Net:
    """SegNet over the paper's VGG16 with batch norm, or over any timm encoder whose strides double."""
    if encoder.backbone is not None:
        return SegNetEncoder(num_classes, encoder_of(encoder))
    vgg = VGG16BN(encoder.in_channels)
    load_vgg16(vgg, encoder, batch_norm=True)
    return SegNet(num_classes, vgg)
