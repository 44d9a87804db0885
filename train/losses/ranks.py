"""Sums over ranks, so that the mean of a loss is over the pixels of the global batch, not of each rank's own.

The arithmetic. Rank r of R has the sum S_r of its pixels' losses and their number n_r. Wanted is the gradient of
sum(S) / sum(n). DDP averages: its gradient is (1/R) sum_r grad(L_r). So each rank's loss must be

    L_r = S_r / (sum(n) / R)          since then (1/R) sum_r grad(L_r) = grad(sum(S)) / sum(n),

that is, divide by the mean count of the ranks instead of one's own count. A rank's L_r alone is not the global
loss; their mean over ranks is. Dividing by the own n_r would weigh a pixel more the fewer its rank has.

A loss that is not a sum over pixels, such as Dice = f(A), A = sum_r A_r, needs A itself on every rank. Then L_r = f(A)
everywhere, and A passes to A_r the gradient R f'(A): DDP's average over ranks makes it f'(A) again.

Both cost one all-reduce of a few numbers a term, and every rank takes part in each, whatever its labels hold. They
need every rank to call the loss equally often: true in training, not in evaluation, so they are for training only.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def active() -> bool:
    """Whether there are several ranks to sum over."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def mean_count(count: Tensor, across_ranks: bool) -> Tensor:
    """count, a scalar that needs no gradient -> its mean over ranks in float64, or 1 where that is 0 (so 0/0 is 0)."""
    mean = count.detach().double()
    if across_ranks and active():
        dist.all_reduce(mean)
        mean = mean / dist.get_world_size()
    return torch.where(mean > 0, mean, torch.ones_like(mean))


def total(value: Tensor, across_ranks: bool) -> Tensor:
    """value -> its sum over ranks, the same on each; its gradient is scaled by the world size for DDP's average."""
    return _Total.apply(value) if across_ranks and active() else value


class _Total(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        value = value.clone()
        dist.all_reduce(value)
        return value

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return grad * dist.get_world_size()
