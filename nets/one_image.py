"""Whether a net can train on one image at a time: batch norm cannot normalize a channel that has a single value."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


class _Found(Exception):
    pass


def norm_of_one_value(net: nn.Module, channels: int, size: tuple[int, int]) -> str | None:
    """The name of the first batch norm that would see one value per channel if `net` trained on a single image.

    net: a Segmenter, or a net. size: height and width of the image. PSPNet, DeepLabV3+ and UPerNet pool the whole image
    to one cell; other nets come down to one where the image is no larger than their stride. Frozen norms do not count.
    None: there is none. Found by one pass on the meta device, without weights or pixels.
    """
    shadow = copy.deepcopy(net).to("meta").train()
    names = {module: name for name, module in shadow.named_modules()}

    def check(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if module.training and inputs[0].numel() == inputs[0].shape[1]:
            raise _Found(names[module])

    for module in names:
        if isinstance(module, _BatchNorm):
            module.register_forward_pre_hook(check)
    inner = getattr(shadow, "net", shadow)  # not through the Segmenter: autocast knows no meta device
    try:
        inner(torch.zeros(1, channels, *size, device="meta"))
    except _Found as found:
        return str(found)
    return None
