"""DUC and HDC (Wang et al., "Understanding Convolution for Semantic Segmentation", WACV 2018, arXiv 1702.08502)."""

from __future__ import annotations

import itertools

import torch.nn.functional as F
from timm.models.resnet import BasicBlock, Bottleneck
from torch import Tensor, nn

from nets.blocks import fcn_head
from nets.encoders import DilatedOptions, Encoder, Needs, encoder_of
from nets.errors import NetError, nearest
from nets.net import Net

# The paper's patterns: dilation rates of the blocks of res4 (repeated as often as they go) and of res5. "conv" is plain
# dilation; the others avoid its gridding. The authors' released network (TuSimple/TuSimple-DUC) is "bigger", but for a
# 2 instead of the first 1.
HDC = {
    "conv": ((2,), (4, 4, 4)),
    "rf": ((1, 2, 3), (3, 4, 5)),
    "bigger": ((1, 2, 5, 9), (5, 9, 17)),
}


# dilation of the parallel 3x3 convolutions that give the scores, in the authors' released network
ASPP_RATES = (6, 12, 18, 24)


class DUC(Net):
    """A dilated encoder at stride 8 whose scores come at full size from depth: K * 8 * 8 channels, rearranged.

    141.60 M parameters with R101 at 21 classes, 99.1 M of them in the four convolutions of the ASPP; 67.27 M without
    (yassouali/pytorch-segmentation: 69.19 M, with a DeepLabV3+ decoder around it).
    """

    def __init__(self, num_classes: int, encoder: Encoder, *, aspp: bool, aux: bool) -> None:
        super().__init__()
        self.encoder = encoder
        self.stride = encoder.pad_stride
        self.factor = encoder.strides[-1]
        cells = num_classes * self.factor**2
        self.upsampling: nn.Module
        if aspp:
            self.upsampling = SumOfDilated(encoder.channels[-1], cells, ASPP_RATES)
        else:
            self.upsampling = nn.Conv2d(encoder.channels[-1], cells, 3, padding=1)
        self.upsampling.apply(_init_scores)
        self.aux_head = fcn_head(encoder.channels[-2], 256, num_classes) if aux else None

    def logits(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        features = self.encoder(images)
        out = F.pixel_shuffle(self.upsampling(features[-1]), self.factor)
        aux = self.aux_head(features[-2]) if self.aux_head is not None and self.training else None
        return out, aux


class SumOfDilated(nn.ModuleList):
    """Parallel 3x3 convolutions of several dilations, added up: DeepLab's first ASPP, here straight to the scores."""

    def __init__(self, in_channels: int, out_channels: int, rates: tuple[int, ...]) -> None:
        super().__init__(nn.Conv2d(in_channels, out_channels, 3, padding=rate, dilation=rate) for rate in rates)

    def forward(self, features: Tensor) -> Tensor:
        """[N, in_channels, h, w] -> [N, out_channels, h, w]."""
        first, *others = self
        total = first(features)
        for conv in others:
            total = total + conv(features)
        return total


def _init_scores(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.normal_(module.weight, std=0.01)


def hdc_rates(pattern: str, blocks: int, stage: int) -> list[int]:
    """The dilation of each of so many blocks of a stage (0: res4, 1: res5). NetError lists the patterns."""
    if pattern not in HDC:
        raise NetError(f"there is no hdc pattern {pattern!r}{nearest(pattern, HDC)}")
    group = HDC[pattern][stage]
    rates = list(itertools.islice(itertools.cycle(group), blocks))
    if pattern == "rf" and stage == 0:
        left = blocks % len(group)  # of ResNet-101's 23 blocks: "for the last two blocks, we keep r = 2"
        rates[blocks - left :] = [2] * left
    return rates


def apply_hdc(encoder: Encoder, pattern: str) -> None:
    """Sets the dilation of the 3x3 convolutions of a timm ResNet's last two stages to one of HDC's patterns."""
    for stage, blocks in enumerate((encoder.model.layer3, encoder.model.layer4)):
        for block, rate in zip(blocks, hdc_rates(pattern, len(blocks), stage), strict=True):
            for conv in [block.conv1, block.conv2] if isinstance(block, BasicBlock) else [block.conv2]:
                conv.dilation = conv.padding = (rate, rate)


def duc(
    num_classes: int,
    encoder: DilatedOptions = DilatedOptions("resnet101"),
    *,
    aux: bool = False,
    hdc: str | None = None,
    aspp: bool = True,
) -> Net:
    """DUC over any timm encoder, by default the paper's ResNet-101 with hybrid dilated convolution.

    output_stride: 8 as in the paper; None is 8 where the encoder can be dilated, else its own.
    hdc: "bigger" (the paper's best; default with a ResNet), "rf" or "conv" (plain dilation; the only one elsewhere).
    aspp: the scores are the sum of four parallel convolutions dilated by 6, 12, 18 and 24, as in the authors' released
    network; false is one undilated convolution.
    """
    made = encoder_of(encoder, Needs(prefer_stride=8))
    can = _is_resnet(made) and made.strides[-1] == 8
    if hdc not in (None, "conv") and not can:
        raise NetError(
            f"hdc {hdc!r} goes with a ResNet at output_stride 8, not with {made.name} at {made.strides[-1]}: "
            "leave hdc out, or choose resnet50, resnet101, ..."
        )
    if can:
        apply_hdc(made, hdc or "bigger")
    return DUC(num_classes, made, aspp=aspp, aux=aux)


def _is_resnet(encoder: Encoder) -> bool:
    return isinstance(getattr(encoder.model, "layer4", [None])[0], BasicBlock | Bottleneck)
