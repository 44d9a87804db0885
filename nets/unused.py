"""Parameters that nothing depends on: found without computing, and taken out of training."""

from __future__ import annotations

import copy

import torch
from torch import nn

from nets.net import Net


def freeze_unused(net: Net, in_channels: int) -> None:
    """Ends the training of parameters that no output of `net` depends on, so that they get no gradient anywhere.

    HRNet carries all its scales to the last layer; a net that reads only some of them leaves the others' ends idle, and
    DistributedDataParallel would wait for their gradients for ever. So are the levels of a plain ViT's pyramid that a
    net does not read. A backward pass on the meta device tells which.
    """
    shadow: nn.Module = copy.deepcopy(net).to("meta").train()
    side = 2 * net.stride
    with torch.enable_grad():  # also where a caller needs no gradients
        logits = shadow(torch.zeros(2, in_channels, side, side, device="meta"))
        total = logits.out.sum() if logits.aux is None else logits.out.sum() + logits.aux.sum()
        total.backward()
    for parameter, copied in zip(net.parameters(), shadow.parameters(), strict=True):
        if copied.grad is None:
            parameter.requires_grad_(False)
