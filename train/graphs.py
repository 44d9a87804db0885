"""`train.cuda_graphs`: forward and backward of the net as two CUDA graphs, for nets that are bound by launches.

ENet's step is some hundred kernels of a few microseconds each: the host needs longer to launch them than the GPU to run
them. Captured once, each pass is one launch. **Not yet measured on a GPU**; stage `levers` of bench/on_gpu.sh does it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ingest.errors import UserError
from nets.net import Logits

# (module, sample arguments) -> the module whose passes are replayed.
Capture = Callable[[nn.Module, tuple[Tensor, ...]], Any]


class _Tensors(nn.Module):
    """The net with a tuple of tensors for its output, as captures want it: without the absent auxiliary head."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        return tuple(score for score in self.net(images) if score is not None)


def check(ranks: int, accumulate: int) -> None:
    """UserError where graphs cannot be used."""
    if ranks > 1:
        raise UserError(
            "train.cuda_graphs = true is for one rank: gradients meet inside the backward pass; set it false"
        )
    if accumulate > 1:
        # Each replay writes the gradients into the same memory, which `.grad` still shares with the part before.
        raise UserError(
            f"train.cuda_graphs = true and optimizer.accumulate = {accumulate}: set one of them to its default"
        )


def captured(
    net: nn.Module, images: Tensor, dtype: torch.dtype | None, capture: Capture = torch.cuda.make_graphed_callables
) -> Callable[[Tensor], Logits]:
    """The net's training passes as graphs: uint8 images of one shape -> Logits.

    images: of that shape, memory format and device; their content is not looked at. dtype: autocast's; None: none.
    Running statistics and random numbers are as if nothing had run. Dropout draws anew at each replay, by the seed that
    is set then. The result's memory is overwritten by the next call.
    """
    net.train()
    before = [buffer.clone() for buffer in net.buffers()]
    # Casts must not be remembered between calls: the graph holds their addresses.
    with (
        torch.random.fork_rng(devices=[images.device] if images.device.type == "cuda" else []),
        torch.autocast(images.device.type, dtype, enabled=dtype is not None, cache_enabled=False),
    ):
        replayed = capture(_Tensors(net), (images,))
    with torch.no_grad():
        for buffer, old in zip(net.buffers(), before, strict=True):
            buffer.copy_(old)
    net.zero_grad(set_to_none=True)

    def forward(images: Tensor) -> Logits:
        out, *aux = replayed(images)
        return Logits(out, aux[0] if aux else None)

    return forward
