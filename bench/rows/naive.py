"""Training as yassouali/pytorch-segmentation does it: float32, NCHW, eager, OpenCV step by step in DataLoader workers,
metrics every step."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.nn import functional as F

from bench.data.setting import Setting
from bench.loaders import stepwise
from bench.measuring.clock import Clock
from ingest.shards.manifest import IGNORE
from train.run import Run


def steps(run: Run, clock: Clock) -> Callable[[], None]:
    """A step of the run's net and optimizer (by torch's defaults, not fused), one batch each.

    The net takes images that the workers normalized in float32, labels come as int64. The loss is cross-entropy, on
    the auxiliary head too, whatever the recipe says. Pixel accuracy, intersections and unions, and the loss are
    fetched from the device after each step.
    """
    loader = run.loader
    setting = Setting(
        str(loader.shards.folder),
        loader.shards.split,
        loader.stream.augment,
        loader.batch_size,
        loader.feeding.workers,
        "gpu" if run.ranks.device.type == "cuda" else "cpu",
    )
    batches = clock.waiting(stepwise.batches(setting))
    # without the layer that normalizes: the workers did
    net = run.net.net.to(memory_format=torch.contiguous_format).train()
    torch.set_float32_matmul_precision("highest")
    chosen = run.recipe.optimizer
    kept = [parameter for parameter in net.parameters() if parameter.requires_grad]
    if chosen.name == "sgd":
        optimizer: torch.optim.Optimizer = torch.optim.SGD(
            kept, chosen.lr, momentum=chosen.momentum, weight_decay=chosen.weight_decay
        )
    else:
        optimizer = torch.optim.AdamW(kept, chosen.lr, weight_decay=chosen.weight_decay)
    classes = len(run.facts["classes"])

    def step() -> None:
        images, labels = next(batches)
        clock.enter("forward")
        optimizer.zero_grad()
        found = net(images)
        loss = F.cross_entropy(found.out, labels, ignore_index=IGNORE)
        if found.aux is not None:
            loss = loss + 0.4 * F.cross_entropy(found.aux, labels, ignore_index=IGNORE)
        clock.enter("backward")
        loss.backward()
        clock.enter("optimizer")
        optimizer.step()
        clock.enter("rest")
        loss.item()
        scores(found.out.detach(), labels, classes)

    return step


def scores(logits: torch.Tensor, labels: torch.Tensor, classes: int) -> tuple[float, list[float]]:
    """Pixel accuracy and per-class IoU of one batch, on the host: logits [N,K,H,W], labels int64 [N,H,W]."""
    guess = logits.argmax(dim=1)
    valid = labels != IGNORE
    hits = (guess == labels) & valid
    accuracy = hits.sum().item() / max(1, int(valid.sum().item()))
    inter, found, there = (
        torch.bincount(values, minlength=classes).cpu() for values in (guess[hits], guess[valid], labels[valid])
    )
    return accuracy, (inter / (found + there - inter).clamp(min=1)).tolist()
