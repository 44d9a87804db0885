"""Losses that look at the overlap of regions instead of one pixel at a time: soft Dice and Lovász-softmax.

Shapes: log_probs [N,K,H,W] float32 (or float64), targets [N,H,W] int64, 255 = ignore.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ingest.shards.manifest import IGNORE
from train.losses import ranks


def dice(log_probs: Tensor, targets: Tensor, *, across_ranks: bool = False) -> Tensor:
    """log_probs [N,K,H,W], targets [N,H,W] int64 -> scalar: mean over classes of 1 - 2 sum(p y) / (sum p + sum y).

    The sums run over the valid pixels of the batch; y is 0 or 1 (Milletari et al. 2016, with p instead of p^2 as most
    segmentation code has it). The mean is over the classes in the ground truth: one that is not there would score 1
    whatever is predicted. Over ranks, sums and presence are the global batch's.

    Memory: at its peak 4.1 times the float32 logits, forward and backward (171 classes, 512 x 512, on a CPU).
    """
    valid = targets != IGNORE
    classes = log_probs.shape[1]
    slots = targets.masked_fill(~valid, 0)
    hit_probs = log_probs.gather(1, slots[:, None])[:, 0].exp() * valid
    overlap = _sum_by_class(hit_probs, slots, classes)
    there = _sum_by_class(valid.to(log_probs.dtype), slots, classes)
    predicted = (log_probs.exp() * valid[:, None]).sum(dim=(0, 2, 3))
    overlap, there, predicted = ranks.total(torch.stack([overlap, there, predicted]), across_ranks)
    present = there > 0
    scores = 2 * overlap / torch.where(present, predicted + there, torch.ones_like(there))
    return ((1 - scores) * present).sum() / present.sum().clamp_min(1)


def _sum_by_class(values: Tensor, slots: Tensor, classes: int) -> Tensor:
    """values [N,H,W], slots [N,H,W] int64 -> [K]: sum of the values of each class.

    Row by row first: long float32 sums stay accurate, and GPU threads do not queue up at K addresses.
    """
    rows = values.reshape(-1, values.shape[-1])
    table = rows.new_zeros(rows.shape[0], classes)
    return table.scatter_add(1, slots.reshape(rows.shape), rows).sum(dim=0)


def lovasz_softmax(
    log_probs: Tensor, targets: Tensor, *, classes: str = "present", per_image: bool = False, across_ranks: bool = False
) -> Tensor:
    """log_probs [N,K,H,W], targets [N,H,W] int64 -> scalar (Berman et al. 2018, algorithm 1 and equation 11).

    For each class, the Lovász extension of the Jaccard loss at the pixel errors |y - p|, averaged over the classes
    `present` in the ground truth or over `all`. The batch is one large image, or with `per_image` the loss is the mean
    over the images that have a valid pixel. Over ranks: `per_image` is exact; otherwise each rank's batch is an image
    of its own, and the loss is the mean of those (the global one would need every pixel on every rank, to sort).

    Memory: what autograd keeps is the gradient, once the size of log_probs; sorting needs about 50 bytes a pixel
    besides, for one class at a time. At its peak 3.1 times the float32 logits, forward and backward, for `present`,
    for `all`, and with `ce` beside it (171 classes, 512 x 512, on a CPU); cross-entropy alone takes 3.0.

    Host sync: `present` on a GPU asks once a call which classes those are, because sorting all of 171 to use 20 costs
    far more than the wait; `all` never asks.
    """
    count, k = targets.shape[0], log_probs.shape[1]
    groups = count if per_image else 1
    targets = targets.reshape(groups, -1)
    valid = targets != IGNORE
    filled = valid.any(dim=1)
    if classes == "present":
        # one slot more for the ignored
        shown = torch.zeros(groups, k + 1, dtype=torch.bool, device=targets.device)
        shown = shown.scatter_(1, targets.masked_fill(~valid, k), True)[:, :k]
        looked_at = [c for c, there in enumerate(shown.any(dim=0).tolist()) if there]
    else:
        shown = filled[:, None].expand(groups, k)
        looked_at = list(range(k))
    shares = shown.to(log_probs.dtype)
    weights = shares / shares.sum(dim=1, keepdim=True).clamp_min(1)  # [G,K], each filled group's sum to 1
    loss = _Lovasz.apply(log_probs, targets, weights, looked_at)
    return loss / ranks.mean_count(filled.sum(), across_ranks).to(loss.dtype)


class _Lovasz(torch.autograd.Function):
    """Sum over groups and classes of weight * extension, with the gradient worked out along the way.

    The extension is linear between changes of the order of errors, so its gradient is the sorted Jaccard steps. Left
    to autograd, each class would keep its sort: for all classes several times the logits.
    """

    @staticmethod
    def forward(ctx: Any, log_probs: Tensor, targets: Tensor, weights: Tensor, classes: list[int]) -> Tensor:
        """log_probs [N,K,H,W], targets [G,P] with G P = N H W, weights [G,K], classes: those to look at."""
        needed = ctx.needs_input_grad[0]
        grads = torch.zeros_like(log_probs) if needed else None
        ignored = targets == IGNORE
        loss = log_probs.new_zeros(())
        for c in classes:
            probs = log_probs[:, c].exp().reshape(targets.shape)
            there = targets == c
            # -1 sorts the ignored behind all others, where they move nobody's rank
            errors = torch.where(there, 1 - probs, probs).masked_fill_(ignored, -1)
            errors, order = errors.sort(dim=1, descending=True)
            steps = jaccard_steps(there.gather(1, order), log_probs.dtype) * weights[:, c, None]
            steps = steps.masked_fill_(errors < 0, 0)
            loss = loss + (errors * steps).sum()
            if grads is not None:
                slopes = torch.empty_like(probs).scatter_(1, order, steps)
                # d error / d log p = p, with the sign of the error: 1 - p where the class is, p elsewhere
                slopes = torch.where(there, -slopes, slopes).mul_(probs)
                grads[:, c] = slopes.view(grads[:, c].shape)
        if grads is not None:
            ctx.save_for_backward(grads)
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        (grads,) = ctx.saved_tensors
        return grads * grad, None, None, None


def jaccard_steps(there: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """there [G,P] bool, ground truth in order of falling error -> float [G,P]: growth of the Jaccard loss at each.

    With F the foreground, f and b the foreground and background among the first i, the loss of getting these wrong is
    1 - (F - f) / (F + b). Its steps are written out, since differences of float32 values near 1 have no digits left:
    a foreground pixel adds 1 / (F + b), a background pixel (F - f) / ((F + b - 1) (F + b)).
    """
    found = there.cumsum(dim=1, dtype=torch.int32)
    foreground = found[:, -1:]
    union = torch.arange(1, there.shape[1] + 1, dtype=torch.int32, device=there.device) - found + foreground
    union = union.to(dtype)
    missed = (foreground - found).to(dtype)
    # (union - 1) is 0 at the first pixel without any foreground: then that pixel is all the loss, and steps by 1
    background = torch.where(union > 1, missed / (union * (union - 1).clamp_min(1)), 0)
    background[:, :1] = torch.where(foreground == 0, 1.0, background[:, :1])
    return torch.where(there, 1 / union, background)
