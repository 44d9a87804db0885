"""SGD and AdamW over four groups of parameters: backbone and head, each with and without weight decay."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import Parameter

from ingest.errors import UserError
from pipeline import checks

NAMES = ("sgd", "adamw")


@dataclass
class OptimizerConfig:
    """The recipe's `optimizer` section."""

    name: str = "sgd"
    """sgd | adamw."""

    lr: float = 0.01
    """Base learning rate, of the head; the schedule multiplies it."""

    momentum: float = 0.9
    """sgd: momentum, in [0, 1)."""

    nesterov: bool = False
    """sgd: Nesterov's momentum."""

    betas: list[float] = field(default_factory=lambda: [0.9, 0.999])
    """adamw: decay of the first and second moment."""

    weight_decay: float = 1e-4
    """sgd: L2 penalty; adamw: decoupled decay."""

    decay_norm_and_bias: bool = False
    """Whether norms and biases (all parameters of fewer than two dimensions) decay too."""

    backbone_lr_scale: float = 1.0
    """Factor on the backbone's learning rate; 0.1 is usual from pretrained weights, 0 keeps it as it is."""

    clip_norm: float | None = None
    """Largest norm of the whole gradient; a longer one is scaled down to it. Off when left out."""

    accumulate: int = 1
    """Batches whose gradients are averaged into one step; each counts alike, however many of its pixels are valid."""

    def __post_init__(self) -> None:
        checks.one_of("optimizer.name", self.name, NAMES)
        checks.number("optimizer.lr", self.lr, "(0, inf)")
        checks.number("optimizer.momentum", self.momentum, "[0, 1)")
        if len(self.betas) != 2:
            raise UserError(f"optimizer.betas is {self.betas!r}: expected two numbers, such as [0.9, 0.999]")
        for index, beta in enumerate(self.betas):
            checks.number(f"optimizer.betas[{index}]", beta, "[0, 1)")
        checks.number("optimizer.weight_decay", self.weight_decay, "[0, inf)")
        checks.number("optimizer.backbone_lr_scale", self.backbone_lr_scale, "[0, inf)")
        if self.clip_norm is not None:
            checks.number("optimizer.clip_norm", self.clip_norm, "(0, inf)")
        checks.whole("optimizer.accumulate", self.accumulate, 1)
        if self.nesterov and (self.name != "sgd" or not self.momentum):
            raise UserError("optimizer.nesterov is true: it needs optimizer.name=sgd and optimizer.momentum above 0")


def build(
    config: OptimizerConfig, groups: Mapping[str, Iterable[Parameter]], device: torch.device
) -> torch.optim.Optimizer:
    """groups: "backbone" and "head" -> their parameters, as `nets.parameter_groups` gives them, on `device`.

    Each of the optimizer's groups has a "name", such as "backbone/no_decay", and an "initial_lr" that `set_lr`
    multiplies. Frozen parameters are left out, and so are groups that end up empty. One fused kernel a step on CPU
    and CUDA; elsewhere torch chooses.
    """
    unknown = set(groups) - {"backbone", "head"}
    if unknown:
        raise ValueError(f"parameter groups {sorted(unknown)} are neither backbone nor head")
    split = []
    for group, parameters in groups.items():
        lr = config.lr * (config.backbone_lr_scale if group == "backbone" else 1.0)
        trained = [p for p in parameters if p.requires_grad]
        spared = [p for p in trained if p.ndim < 2 and not config.decay_norm_and_bias]
        decayed = [p for p in trained if not (p.ndim < 2 and not config.decay_norm_and_bias)]
        for suffix, members, decay in (("decay", decayed, config.weight_decay), ("no_decay", spared, 0.0)):
            if members:
                name = f"{group}/{suffix}"
                split.append({"params": members, "name": name, "lr": lr, "initial_lr": lr, "weight_decay": decay})
    fused = True if device.type in ("cpu", "cuda") else None
    if config.name == "sgd":
        sgd = torch.optim.SGD(split, lr=config.lr, momentum=config.momentum, nesterov=config.nesterov, fused=fused)
        if config.momentum:
            # Left to itself, torch 2.15 takes uninitialised memory for the momentum, which its fused kernel leaves as
            # it is when fp16 overflows in the first step.
            for parameter in (p for group in sgd.param_groups for p in group["params"]):
                sgd.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
        return sgd
    return torch.optim.AdamW(split, lr=config.lr, betas=(config.betas[0], config.betas[1]), fused=fused)


def set_lr(optimizer: torch.optim.Optimizer, factor: float, momentum: float | None = None) -> None:
    """Sets each group's learning rate to factor times its initial one, and momentum (AdamW: beta1) unless None."""
    for group in optimizer.param_groups:
        group["lr"] = group["initial_lr"] * factor
        if momentum is None:
            continue
        if "betas" in group:
            group["betas"] = (momentum, group["betas"][1])
        else:
            group["momentum"] = momentum


def clip(optimizer: torch.optim.Optimizer, clip_norm: float | None) -> Tensor:
    """Scales the gradients down to a joint norm of clip_norm; returns the norm before, a scalar on the device.

    With None it only measures. With a GradScaler call `scaler.unscale_(optimizer)` first. Nothing waits for the
    device; a gradient that is not finite gives a norm that is not, and is left for the scaler or the loop to judge.
    """
    parameters = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
    norm = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
    if clip_norm is not None:
        torch.nn.utils.clip_grads_with_norm_(parameters, clip_norm, norm)
    return norm
