"""PSPNet (Zhao, Shi, Qi, Wang, Jia, CVPR 2017, arXiv 1612.01105)."""

from __future__ import annotations

from torch import Tensor, nn

from nets.blocks import conv_bn_relu, fcn_head
from nets.encoders import DilatedOptions, Encoder, Needs, encoder_of
from nets.net import Net
from nets.ppm import PyramidPooling


class PSPNet(Net):
    """A dilated encoder at stride 8 and pyramid pooling over its last features; the auxiliary loss sits at res4.

    48.96 M parameters with R50 and aux at 21 classes, as mmsegmentation's. yassouali/pytorch-segmentation's 51.45 M
    come from a wider auxiliary head; segmentation_models.pytorch's 24.39 M from cutting the encoder off after res3.
    """

    def __init__(self, num_classes: int, encoder: Encoder, *, aux: bool) -> None:
        super().__init__()
        self.encoder = encoder
        self.stride = encoder.pad_stride
        channels = encoder.channels[-1]
        self.pyramid = PyramidPooling(channels, channels // 4)
        self.head = nn.Sequential(*conv_bn_relu(self.pyramid.out_channels, 512), nn.Dropout(0.1))
        self.classifier = nn.Conv2d(512, num_classes, 1)
        self.aux_head = fcn_head(encoder.channels[-2], 256, num_classes) if aux else None

    def logits(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        features = self.encoder(images)
        out = self.classifier(self.head(self.pyramid(features[-1])))
        aux = self.aux_head(features[-2]) if self.aux_head is not None and self.training else None
        return out, aux


def pspnet(
    num_classes: int,
    encoder: DilatedOptions = DilatedOptions("resnet50"),
    *,
    aux: bool = False,
) -> Net:
    """PSPNet over any timm encoder ("resnet101", "densenet201", ...).

    output_stride: 8 as in the paper; None is 8 where the encoder can be dilated, else its own, and that of the patches
    over a plain ViT.
    """
    return PSPNet(num_classes, encoder_of(encoder, Needs(prefer_stride=8, flat=True)), aux=aux)
