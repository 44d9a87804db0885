"""Plain vision transformers (ViT, DINOv2, DINOv3, CLIP, SAM) as encoders: maps of some blocks, and a pyramid of them.

N batch, C channels, H W pixels, h w rows and columns of patches.
"""

from __future__ import annotations

import math
import os
from typing import Any

import timm
import torch
from timm.layers import RotaryEmbeddingDinoV3
from torch import Tensor, nn

from nets.blocks import to_channels_last
from nets.encoders.pretrained import create_timm

MAPS = 4  # blocks whose output is given, evenly spaced, the last block's among them
STRIDES = (4, 8, 16, 32)  # of the pyramid


class PlainViT(nn.Module):
    """timm's ViT as the maps of four of its blocks, each behind the ViT's final norm, as DINOv2 gives them.

    (SAM's have its neck in place of the norm: 256 channels.) Position embeddings are interpolated to the image's size.
    """

    def __init__(self, name: str, options: dict[str, Any], pretrained: bool | str | os.PathLike[str]) -> None:
        super().__init__()
        self.vit: Any = create_timm(name, {"num_classes": 0, **_any_size(name), **options}, pretrained)
        depth = len(self.vit.blocks)
        self.taken = [depth * (i + 1) // MAPS - 1 for i in range(MAPS)]
        rope = getattr(self.vit, "rope", None)
        if type(rope) is RotaryEmbeddingDinoV3:
            rope.__class__ = _AnySizeRotary
        self.vit.prune_intermediate_layers(self.taken, prune_norm=False, prune_head=True)
        self.channels = [int(self.vit.num_features)] * MAPS
        self.loaded: str | None = self.vit.loaded
        self.pretrained_cfg: dict[str, Any] = self.vit.pretrained_cfg

    def forward(self, images: Tensor) -> list[Tensor]:
        """images [N,C,H,W], sides multiples of the patch -> four maps [N, channels[i], h, w], channels-last."""
        maps = self.vit.forward_intermediates(images, indices=self.taken, norm=True, intermediates_only=True)
        return [to_channels_last(m) for m in maps]


class _AnySizeRotary(RotaryEmbeddingDinoV3):
    """timm's rotary positions of DINOv3, the same numbers, without turning the map's sides into Python floats: those
    would hold an exported net to the size of its example."""

    def _create_embed(self, feat_shape: list[int], no_aug: bool = False) -> Tensor:
        augmented = not no_aug and self.training and self.aug_active
        usual = (self.normalize_coords, self.grid_indexing, self.grid_offset) == ("separate", "ij", 0.0)
        if augmented or not usual:
            return super()._create_embed(feat_shape, no_aug)
        rows, columns = ((torch.arange(side, dtype=torch.float32) + 0.5) / side for side in feat_shape)
        grid = torch.stack(torch.meshgrid(rows, columns, indexing="ij"), dim=-1).flatten(0, 1)
        return torch.cat(self._get_pos_embed_from_coords(2.0 * grid - 1.0), dim=-1)


class Pyramid(nn.Module):
    """Four maps of one stride -> four of strides 4 to 32, as BEiT's segmentation code (arXiv 2106.08254) makes them.

    The first blocks' maps become the finest: doubled by 2x2 transposed convolutions (batch norm and GELU between two),
    halved by max pooling. mmsegmentation calls it Feature2Pyramid; ViTDet (arXiv 2203.16527) makes all four of the last
    map instead.
    patch: the maps' stride, counted as the nearest power of two: 14 as 16, so that a stride of 4 is really 3.5.
    """

    def __init__(self, channels: list[int], patch: int) -> None:
        super().__init__()
        self.steps = nn.ModuleList(
            _rescaling(c, nominal(patch), stride) for c, stride in zip(channels, STRIDES, strict=True)
        )

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        return [step(m) for step, m in zip(self.steps, maps, strict=True)]


def nominal(patch: int) -> int:
    """The power of two nearest to a patch's side."""
    return int(2 ** round(math.log2(patch)))


def pad_stride(patch: int, *, pyramid: bool) -> int:
    """What sides must be multiples of: whole patches, and whole cells of the coarsest map."""
    return patch * max(1, STRIDES[-1] // nominal(patch)) if pyramid else patch


def _rescaling(channels: int, stride: int, target: int) -> nn.Module:
    if target > stride:
        return nn.MaxPool2d(target // stride)
    parts: list[nn.Module] = []
    while stride > target:
        if parts:
            parts += [nn.BatchNorm2d(channels), nn.GELU()]
        parts.append(nn.ConvTranspose2d(channels, channels, 2, stride=2))
        stride //= 2
    return nn.Sequential(*parts)  # none: as it is


def _any_size(name: str) -> dict[str, Any]:
    """The option that most of timm's ViTs need to take images of any size; SAM's do without, and do not know it."""
    try:
        with torch.device("meta"):
            timm.create_model(name.split(".")[0], dynamic_img_size=True)
    except TypeError:
        return {}
    return {"dynamic_img_size": True}
