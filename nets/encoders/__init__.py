"""Encoders: timm's models as feature pyramids, VGG16, and where their pretrained weights come from."""

from nets.encoders.encoder import Encoder

__all__ = ["Encoder"]
