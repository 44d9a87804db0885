"""What a net can be asked for about its encoder: the common part of every builder's options."""

from __future__ import annotations

import os
from dataclasses import dataclass


@dataclass(frozen=True)
class EncoderOptions:
    """The fields are option names of `nets.build`; a builder's default argument holds the net's own defaults."""

    backbone: str | None = None  # a timm encoder; None: the net's own, which is not timm's
    pretrained: bool = False  # from timm's model hub
    backbone_weights: str | os.PathLike[str] | None = None  # from a file instead
    in_channels: int = 3

    @property
    def source(self) -> bool | str | os.PathLike[str]:
        """Where the weights come from: a file, True for the hub, False for a random start."""
        return self.pretrained if self.backbone_weights is None else self.backbone_weights


@dataclass(frozen=True)
class Needs:
    """What a net's design wants of its encoder, whatever that is."""

    prefer_stride: int | None = None  # the coarsest feature map's, where the encoder can be dilated to it
    drop_path: float | None = (
        None  # rate of skipped residual branches in training, rising with depth; None: the encoder's
    )
    flat: bool = False  # of a plain ViT the maps of four blocks as they are, without a pyramid on top


@dataclass(frozen=True)
class DilatedOptions(EncoderOptions):
    """Of nets whose encoder may be dilated instead of downsampling to the end."""

    output_stride: int | None = None  # input size / size of the coarsest features; None: the net's default
