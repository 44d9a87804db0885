"""Cross-entropy (class weights, label smoothing, OHEM) and focal loss: means over the valid pixels.

Shapes: log_probs [N,K,H,W] float32 (or float64), targets [N,H,W] int64, 255 = ignore.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from ingest.shards.manifest import IGNORE
from train.losses import ranks

# classes below which torch's CPU softmax along the fastest dimension is slower than one along a plane, copy and all
FEW_CLASSES = 16


def log_probabilities(logits: Tensor, *, by_class: bool = False) -> Tensor:
    """logits [N,K,H,W] -> log-softmax over K, the same shape.

    Channels-last in memory, as the nets' logits are: torch's log_softmax(dim=1) would first copy them class by class.
    by_class: keeps that order, for a loss that goes through whole planes, one class after the other. So does a CPU with
    few classes.
    """
    if by_class or (logits.device.type == "cpu" and logits.shape[1] < FEW_CLASSES):
        return F.log_softmax(logits, dim=1)
    return F.log_softmax(logits.permute(0, 2, 3, 1), dim=-1).permute(0, 3, 1, 2)


def _nll(log_probs: Tensor, targets: Tensor) -> Tensor:
    """log_probs [N,K,H,W], targets [N,H,W] int64 -> [N,H,W]: -log p_y, 0 where ignored."""
    rows = log_probs.permute(0, 2, 3, 1)
    if not rows.is_contiguous():
        return F.nll_loss(log_probs, targets, ignore_index=IGNORE, reduction="none")
    # pixel by pixel, without a copy; torch's four-dimensional one takes and returns whole planes
    flat = F.nll_loss(rows.flatten(0, 2), targets.flatten(), ignore_index=IGNORE, reduction="none")
    return flat.view(targets.shape)


def cross_entropy(
    log_probs: Tensor,
    targets: Tensor,
    *,
    class_weights: Tensor | None = None,
    label_smoothing: float = 0.0,
    ohem: tuple[float | None, float | None] = (None, None),
    across_ranks: bool = False,
) -> Tensor:
    """log_probs [N,K,H,W], targets [N,H,W] int64 -> scalar: sum of w_y l / sum of w_y over the pixels that count.

    Weights and smoothing as `torch.nn.functional.cross_entropy` defines them. ohem: fraction and threshold of
    `hardest`, None: all pixels. OHEM ranks pixels by -log p_y alone,
    within each rank's own batch (a global order would need all pixels on every rank); the mean is over the pixels
    picked on all ranks.

    Memory: at its peak 3.0 times the float32 logits, forward and backward (171 classes, 512 x 512, on a CPU): the
    log-probabilities, their gradient and that of the logits. `focal` takes 3.1.
    """
    loss, weights = _cross_entropies(log_probs, targets, class_weights, label_smoothing, ohem)
    return _mean(loss, weights, across_ranks)


def cross_entropy_over_all(
    log_probs: Tensor,
    targets: Tensor,
    *,
    class_weights: Tensor | None = None,
    label_smoothing: float = 0.0,
    ohem: tuple[float | None, float | None] = (None, None),
    across_ranks: bool = False,
) -> Tensor:
    """The same, but the sum of w_y l is divided by the number of all pixels, ignored ones too, whatever their weights.

    So mmsegmentation does by default (avg_non_ignore=False): a crop that is half padding moves the net half as much.
    """
    loss, _ = _cross_entropies(log_probs, targets, class_weights, label_smoothing, ohem)
    count = torch.full((), targets.numel(), dtype=torch.float64, device=targets.device)
    return loss.sum() / ranks.mean_count(count, across_ranks).to(loss.dtype)


def _cross_entropies(
    log_probs: Tensor,
    targets: Tensor,
    class_weights: Tensor | None,
    label_smoothing: float,
    ohem: tuple[float | None, float | None],
) -> tuple[Tensor, Tensor]:
    """w_y l and w_y of each pixel, [N,H,W] both; 0 where it does not count."""
    valid = targets != IGNORE
    nll = _nll(log_probs, targets)
    weights = _pixel_weights(targets, valid, class_weights, log_probs.dtype)
    loss = nll * weights
    if label_smoothing:
        spread = log_probs if class_weights is None else log_probs * class_weights.view(1, -1, 1, 1)
        smooth = spread.sum(dim=1) * (-label_smoothing / log_probs.shape[1])
        loss = (1 - label_smoothing) * loss + smooth * valid
    if ohem != (None, None):
        hard = hardest(nll.detach(), valid, *ohem)
        loss, weights = loss * hard, weights * hard
    return loss, weights


def hardest(nll: Tensor, valid: Tensor, fraction: float | None, threshold: float | None) -> Tensor:
    """nll [N,H,W] = -log p_y, valid [N,H,W] bool -> bool [N,H,W]: what OHEM keeps.

    By a full sort and a mask instead of `topk`: how many pixels are kept depends on the labels, and asking for that
    number would wait for the device.
    """
    keep = torch.zeros_like(valid) if threshold is None else nll > -math.log(threshold)
    if fraction is not None:
        order = nll.masked_fill(~valid, -1.0).flatten().argsort(descending=True, stable=True)
        place = torch.arange(order.numel(), device=order.device)
        picked = place < torch.ceil(valid.sum() * fraction)
        keep = keep | torch.zeros_like(picked).scatter_(0, order, picked).view_as(keep)
    return keep & valid


def focal(
    log_probs: Tensor,
    targets: Tensor,
    *,
    gamma: float = 2.0,
    alpha: float | Tensor = 1.0,
    class_weights: Tensor | None = None,
    across_ranks: bool = False,
) -> Tensor:
    """log_probs [N,K,H,W], targets [N,H,W] int64 -> scalar: mean of alpha_y (1 - p_y)^gamma (-log p_y).

    Lin et al. 2017, equation 5, with a softmax over K classes. alpha: a number, or a tensor [K].
    """
    valid = targets != IGNORE
    nll = _nll(log_probs, targets)
    # 1 - p by expm1 keeps its digits where p is near 1; the clamp keeps the slope of x^gamma finite at p = 1
    miss = -torch.expm1(-nll)
    loss = miss.clamp_min(torch.finfo(miss.dtype).tiny) ** gamma * nll
    weights = _pixel_weights(targets, valid, class_weights, log_probs.dtype)
    scale = alpha[targets.masked_fill(~valid, 0)] if isinstance(alpha, Tensor) else alpha
    return _mean(loss * weights * scale, weights, across_ranks)


def _pixel_weights(targets: Tensor, valid: Tensor, class_weights: Tensor | None, dtype: torch.dtype) -> Tensor:
    if class_weights is None:
        return valid.to(dtype)
    return class_weights.to(dtype)[targets.masked_fill(~valid, 0)] * valid


def _mean(loss: Tensor, weights: Tensor, across_ranks: bool) -> Tensor:
    # counted in float64: float32 stops counting at 2^24, about 8 images of 1024 x 2048
    count = weights.sum(dtype=torch.float64)
    return loss.sum() / ranks.mean_count(count, across_ranks).to(loss.dtype)
