"""Encoders: timm's models as feature pyramids, VGG16, and where their pretrained weights come from."""

from nets.encoders.encoder import Encoder, encoder_of
from nets.encoders.options import DilatedOptions, EncoderOptions, Needs

__all__ = ["DilatedOptions", "Encoder", "EncoderOptions", "Needs", "encoder_of"]
