"""VGG16 (Simonyan and Zisserman, arXiv 1409.1556, configuration D): the encoder that FCN and SegNet are made of."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from nets.encoders.options import EncoderOptions
from nets.encoders.pretrained import create_timm, statistics

# channels of the 3x3 convolutions between the five poolings
STAGES = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))


def conv_stage(in_channels: int, widths: tuple[int, ...], *, batch_norm: bool) -> nn.Sequential:
    """3x3 convolutions of these widths, each with ReLU, and with batch norm before it if asked for."""
    layers: list[nn.Module] = []
    for width in widths:
        layers.append(nn.Conv2d(in_channels, width, 3, padding=1))
        layers += [nn.BatchNorm2d(width)] if batch_norm else []
        layers.append(nn.ReLU(inplace=True))
        in_channels = width
    return nn.Sequential(*layers)


def vgg16_stages(in_channels: int, *, batch_norm: bool) -> nn.ModuleList:
    """The five stages, without the poolings between them."""
    inputs = (in_channels, *(widths[-1] for widths in STAGES))
    return nn.ModuleList(conv_stage(i, w, batch_norm=batch_norm) for i, w in zip(inputs, STAGES, strict=False))


def load_vgg16(encoder: Any, options: EncoderOptions, *, batch_norm: bool) -> None:
    """Fills the encoder from timm's vgg16 or vgg16_bn (the hub's, or a file): the same layers in the same order.

    Of timm's layers those that the encoder has: the convolutions, and fc6 and fc7 if they follow. Sets the encoder's
    `statistics`, the pretraining data's (mean, std), and `loaded`, what was loaded in words; None where no weights were
    asked for. Raises NetError when there are none to be had.
    """
    encoder.statistics = encoder.loaded = None
    if options.source is False:
        return
    name = "vgg16_bn" if batch_norm else "vgg16"
    model = create_timm(name, {"in_chans": options.in_channels}, options.source)
    source: list[Tensor] = list(model.state_dict().values())
    keys = list(encoder.state_dict())
    encoder.load_state_dict(dict(zip(keys, source[: len(keys)], strict=True)))
    encoder.statistics, encoder.loaded = statistics(model, options.in_channels), model.loaded
