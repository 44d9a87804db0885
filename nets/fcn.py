"""FCN (Long, Shelhamer, Darrell, CVPR 2015, arXiv 1411.4038): FCN-32s, FCN-16s and FCN-8s."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from nets.blocks import BilinearDeconv, ConcatHead, fcn_head, init_he, init_zero
from nets.encoders import DilatedOptions, Encoder, Needs, encoder_of
from nets.encoders.vgg import load_vgg16, vgg16_stages
from nets.errors import NetError, check_choice
from nets.net import Net

FORMS = ("paper", "mmsegmentation")


class FCN(Net):
    """Scores of the last features, and of up to two finer ones, added up while doubling.

    FCN-8s over VGG16 at 21 classes: 134.38 M parameters; yassouali/pytorch-segmentation's 134.49 M also hold the
    last x8 upsampling, which the paper fixes to bilinear. Padding of 100 pixels at the first convolution, there to make
    small images large enough for fc6, is left out: fc6 is padded instead, and nothing needs to be cropped to fit.

    Over a timm encoder the score of the last features is a 3x3 convolution and a 1x1 classifier: with resnet50,
    output_stride 8 and no skips torchvision's FCN, weight by weight (35.32 M with aux); in the form "mmsegmentation"
    its FCN of 49.5 M.
    """

    def __init__(
        self, num_classes: int, encoder: Encoder | VGG16, score: nn.Module, *, skips: int, aux_head: nn.Module | None
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.stride = encoder.pad_stride
        self.score = score
        wanted = [encoder.strides[-1] // 2, encoder.strides[-1] // 4][:skips]
        self.levels = [encoder.index_of(stride) for stride in wanted]
        self.skip_scores = nn.ModuleList(nn.Conv2d(encoder.channels[level], num_classes, 1) for level in self.levels)
        self.doublings = nn.ModuleList(BilinearDeconv(num_classes) for _ in self.levels)
        self.skip_scores.apply(init_zero)  # as in the paper, so that a net grown from FCN-32s starts as that
        self.aux_head = aux_head

    def logits(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        features = self.encoder(images)
        out = self.score(features[-1])
        for level, double, skip in zip(self.levels, self.doublings, self.skip_scores, strict=True):
            out = double(out) + skip(features[level])
        aux = self.aux_head(features[-2]) if self.aux_head is not None and self.training else None
        return out, aux


class VGG16(nn.Module):
    """VGG16 with its fully connected layers as convolutions: features at strides 2 to 32, then fc7's."""

    strides = (2, 4, 8, 16, 32)
    pad_stride = 32
    channels = (64, 128, 256, 512, 4096)  # after each pooling; the last after fc7

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.stages = vgg16_stages(in_channels, batch_norm=False)
        self.fc6 = nn.Conv2d(512, 4096, 7, padding=3)
        self.fc7 = nn.Conv2d(4096, 4096, 1)
        self.dropout = nn.Dropout(0.5)
        self.apply(init_he)

    def forward(self, images: Tensor) -> list[Tensor]:
        features = []
        for stage in self.stages:
            images = F.max_pool2d(stage(images), 2)
            features.append(images)
        fc6 = self.dropout(F.relu(self.fc6(features[-1])))
        features[-1] = self.dropout(F.relu(self.fc7(fc6)))
        return features

    def index_of(self, stride: int) -> int:
        return self.strides.index(stride)


def fcn(
    num_classes: int,
    encoder: DilatedOptions = DilatedOptions(),
    *,
    aux: bool = False,
    skips: int = 2,
    form: str = "paper",
) -> Net:
    """FCN over the paper's VGG16, or over any timm encoder.

    skips: how many finer feature maps are added: 2 is FCN-8s, 1 FCN-16s, 0 FCN-32s.
    output_stride: of a timm encoder, None for its own. aux: only over a timm encoder.
    form: of the head over a timm encoder. "paper" has one 3x3 convolution, as torchvision; "mmsegmentation" two, and a
    third over them and their input.
    """
    check_choice("fcn", "form", form, FORMS)
    if skips not in (0, 1, 2):
        raise NetError(f"skips is {skips}: expected 0 (FCN-32s), 1 (FCN-16s) or 2 (FCN-8s)")
    if encoder.backbone is None:
        if aux or encoder.output_stride is not None or form != "paper":
            raise NetError("fcn has aux, output_stride and form only over a timm encoder: add a backbone (resnet50)")
        vgg = VGG16(encoder.in_channels)
        load_vgg16(vgg, encoder, batch_norm=False)
        score = nn.Conv2d(vgg.channels[-1], num_classes, 1)
        init_zero(score)  # as in the paper: random scores did no better
        return FCN(num_classes, vgg, score, skips=skips, aux_head=None)
    made = encoder_of(encoder, Needs(flat=skips == 0))
    channels = made.channels
    make = fcn_head if form == "paper" else ConcatHead
    head = make(channels[-1], channels[-1] // 4, num_classes)
    aux_head = fcn_head(channels[-2], channels[-2] // 4, num_classes) if aux else None
    return FCN(num_classes, made, head, skips=skips, aux_head=aux_head)
