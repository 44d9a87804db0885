"""What every net shares: any input size, logits at input size, the auxiliary output in training only.

N batch, C channels, H W pixels, K classes, h w a feature map's sides.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Logits(NamedTuple):
    """What a net returns in training mode; in eval mode it returns `out` alone."""

    out: Tensor  # [N, K, H, W] float32, H and W the input's
    aux: Tensor | None  # the same shape from the auxiliary head; None where the net has none


class Net(nn.Module):
    """Pads to the net's stride, asks `logits` for scores, brings them to the input's size.

    Padding (right and bottom, with zeros, as the convolutions themselves do) instead of letting each strided layer
    round in its own way: every feature cell then stands for the same block of pixels at every size, so upsampling is
    by whole factors and a 97x131 image is registered as exactly as a 96x128 one.

    Logits are upsampled and returned in float32, under autocast too: the gradient of upsampling adds up on a GPU in the
    number format of its input, and bfloat16 has no digits for that. The losses want float32 in any case.
    """

    stride: int  # the sides of what `logits` sees are multiples of this

    def logits(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """Scores of images [N,C,H,W] at any resolution [N,K,h,w], and the auxiliary head's (None in eval)."""
        raise NotImplementedError

    def forward(self, images: Tensor) -> Logits | Tensor:
        """images [N,C,H,W] float, normalized -> Logits in training, [N,K,H,W] float32 in eval."""
        size = images.shape[-2:]
        # rounded up; of positive numbers only: ONNX's integer division truncates
        height, width = ((side + self.stride - 1) // self.stride * self.stride for side in size)
        padded = F.pad(images, (0, width - size[1], 0, height - size[0]))
        out, aux = self.logits(padded)
        out = _crop(resize_like(out.float(), padded), size)
        if not self.training:
            return out
        return Logits(out, None if aux is None else _crop(resize_like(aux.float(), padded), size))


def _crop(logits: Tensor, size: Sequence[int]) -> Tensor:
    """The upper left `size` (height, width) of the padded logits."""
    if torch.compiler.is_exporting():
        # as a copy: torch.export asks of a view whether it is contiguous, and so fixes whether there was padding
        height, width = logits.shape[-2:]
        return F.pad(logits, (0, size[1] - width, 0, size[0] - height))
    return logits[..., : size[0], : size[1]]


def resize_like(features: Tensor, other: Tensor) -> Tensor:
    """Bilinear, to other's height and width; pixel centers stay put (align_corners=False)."""
    return F.interpolate(features, size=other.shape[-2:], mode="bilinear", align_corners=False)


def spread_like(cell: Tensor, other: Tensor) -> Tensor:
    """cell [N,C,1,1] -> the same value at each of other's pixels, channels-last in memory.

    Neither `expand` nor `interpolate` do: a 1x1 map has no layout to keep, and `cat` falls back to NCHW for all its
    inputs if one of them is not channels-last.
    """
    rows = cell.permute(0, 2, 3, 1).expand(-1, *other.shape[-2:], -1)
    return rows.contiguous().permute(0, 3, 1, 2)


def parameter_groups(net: nn.Module) -> dict[str, list[nn.Parameter]]:
    """The trainable parameters as {"backbone": [...], "head": [...]}: for differential learning rates.

    The backbone is the net's `encoder`; a net without a separate one (ENet, the paper's U-Net) is all head. Frozen
    parameters are in neither. Takes a net or a `Segmenter`.
    """
    encoder = find_encoder(net)
    backbone = [] if encoder is None else [p for p in encoder.parameters() if p.requires_grad]
    ids = {id(p) for p in backbone}
    return {"backbone": backbone, "head": [p for p in net.parameters() if p.requires_grad and id(p) not in ids]}


def find_encoder(net: nn.Module) -> nn.Module | None:
    """The net's (or the Segmenter's net's) separate encoder, if it has one.

    Of a plain ViT it is the ViT alone: the pyramid on top of it is never pretrained, and trains as the head does.
    """
    inner = getattr(net, "net", net)
    encoder = getattr(inner, "encoder", None)
    return getattr(encoder, "trunk", encoder) if isinstance(encoder, nn.Module) else None
