"""Parameters and multiply-adds of a net, counted without weights or pixels (on torch's meta device)."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


class Cost(NamedTuple):
    parameters: int
    macs: int  # multiply-adds of convolutions and matrix products, half of FlopCounterMode's count, for one image


def measure(
    make: Callable[[], nn.Module], size: int | tuple[int, int], in_channels: int = 3
) -> tuple[Cost, dict[str, Cost]]:
    """The cost in eval mode of what `make` builds, for one [1,in_channels,H,W] image; and that of its parts.

    size: H and W, or one number for both.
    Parts are the direct submodules; what the net does between them (resizing) has no multiply-adds that are counted.
    """
    with torch.device("meta"):
        net = make().eval()
        counter = FlopCounterMode(display=False)
        with torch.no_grad(), counter:
            net(torch.zeros(1, in_channels, *((size, size) if isinstance(size, int) else size)))
    root = type(net).__name__
    counts = counter.get_flop_counts()

    def cost(module: nn.Module, path: str) -> Cost:
        macs = sum(counts.get(path, {}).values()) // 2
        return Cost(sum(p.numel() for p in module.parameters()), macs)

    parts = {name: cost(module, f"{root}.{name}") for name, module in net.named_children()}
    return Cost(sum(p.numel() for p in net.parameters()), counter.get_total_flops() // 2), parts
