"""Dilation of a DenseNet, the one common encoder that timm does not dilate itself (PSPDenseNet needs it)."""

from __future__ import annotations

from timm.models.densenet import DenseLayer, DenseTransition
from torch import nn


def dilate_densenet(model: nn.Module, output_stride: int) -> None:
    """Takes the pooling out of the last transitions, dilates the 3x3 convolutions after them instead; in place.

    Weights stay as they are.
    """
    stride, dilation = 4, 1
    for module in model.modules():
        if isinstance(module, DenseTransition):
            if stride == output_stride:
                module.pool = nn.Identity()
                dilation *= 2
            else:
                stride *= 2
        elif isinstance(module, DenseLayer):
            module.conv2.dilation = module.conv2.padding = (dilation, dilation)
