"""Linear head (Oquab et al., DINOv2, TMLR 2024, arXiv 2304.07193): how good an encoder's features are as they are."""

from __future__ import annotations

from torch import Tensor, nn

from nets.encoders import Encoder, EncoderOptions, Needs, encoder_of
from nets.net import Net


class Linear(Net):
    """Batch norm and a 1x1 convolution on the encoder's last feature map, as in DINOv2's linear evaluation.

    22.1 M parameters with DINOv2's ViT-S/14, of which 9 thousand at 21 classes are the head's.
    """

    def __init__(self, num_classes: int, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.stride = encoder.pad_stride
        self.norm = nn.BatchNorm2d(encoder.channels[-1])
        self.classifier = nn.Conv2d(encoder.channels[-1], num_classes, 1)
        nn.init.normal_(self.classifier.weight, std=0.01)  # as mmsegmentation, in which it was evaluated

    def logits(self, images: Tensor) -> tuple[Tensor, None]:
        return self.classifier(self.norm(self.encoder(images)[-1])), None


def linear(num_classes: int, encoder: EncoderOptions = EncoderOptions("vit_small_patch14_dinov2")) -> Net:
    """A linear classifier of each cell of the encoder's last feature map; the encoder is mostly frozen
    (net.freeze_backbone). Over a plain ViT that is each patch, over others each cell at their coarsest stride."""
    return Linear(num_classes, encoder_of(encoder, Needs(flat=True)))
