"""torch's optimizers over four groups of parameters: backbone and head, each with and without weight decay."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import Parameter

import nets
from ingest.errors import UserError
from nets.net import find_encoder
from train.optim.config import OptimizerConfig
from train.optim.layers import distances

__all__ = ["OptimizerConfig", "build", "clip", "for_net", "momentum_of", "set_lr"]

# Position tables and tokens of transformers: two dimensions or more, yet no weights that should decay.
_SPARED = (
    *("relative_position_bias_table", "absolute_pos_embed", "pos_embed", "rel_pos_h", "rel_pos_w"),
    *("cls_token", "reg_token", "dist_token"),
)


def for_net(config: OptimizerConfig, net: nn.Module, device: torch.device) -> torch.optim.Optimizer:
    """The optimizer of a net (`nets.Net` or `nets.Segmenter`) on `device`, see `build`.

    UserError where layer_decay finds no stages to tell apart.
    """
    distance: dict[int, int] = {}
    if config.layer_decay != 1:
        encoder = find_encoder(net)
        distance = distances(encoder) if encoder is not None else {}
        if not distance:
            raise UserError(
                f"optimizer.layer_decay = {config.layer_decay}: this net has no encoder whose stages could be told "
                "apart; leave it at 1"
            )
    spared = {id(value) for name, value in net.named_parameters() if name.rpartition(".")[2] in _SPARED}
    return build(config, nets.parameter_groups(net), device, distance, spared)


def build(
    config: OptimizerConfig,
    groups: Mapping[str, Iterable[Parameter]],
    device: torch.device,
    distance: Mapping[int, int] = MappingProxyType({}),
    spared: Collection[int] = (),
) -> torch.optim.Optimizer:
    """groups: "backbone" and "head" -> their parameters, as `nets.parameter_groups` gives them, on `device`.

    distance: id of a backbone's parameter -> how many factors layer_decay it gets. spared: ids of parameters without
    weight decay, besides norms and biases. Each of the optimizer's groups has a "name", such as "backbone/no_decay"
    (with layer decay "backbone2/no_decay", by distance), and an "initial_lr" that `set_lr` multiplies. Frozen
    parameters are left out, and so are groups that end up empty. One fused kernel a step on CPU and CUDA where torch
    has one; elsewhere torch chooses.
    """
    unknown = set(groups) - {"backbone", "head"}
    if unknown:
        raise ValueError(f"parameter groups {sorted(unknown)} are neither backbone nor head")
    split: list[dict[str, Any]] = []
    for group, parameters in groups.items():
        layers: dict[int, list[Parameter]] = {}
        for parameter in parameters:
            if parameter.requires_grad:
                layers.setdefault(distance.get(id(parameter), 0), []).append(parameter)
        for layer in sorted(layers):
            lr = config.lr * (config.backbone_lr_scale if group == "backbone" else 1.0) * config.layer_decay**layer
            for suffix, members, decay in _by_decay(config, layers[layer], spared):
                name = f"{group}{layer or ''}/{suffix}"
                split.append({"params": members, "name": name, "lr": lr, "initial_lr": lr, "weight_decay": decay})
    return _make(config, split, fused=True if device.type in ("cpu", "cuda") else None)


def _by_decay(
    config: OptimizerConfig, parameters: list[Parameter], spared: Collection[int]
) -> list[tuple[str, list[Parameter], float]]:
    """(suffix of the group's name, members, weight decay); only groups with members."""

    def decays(parameter: Parameter) -> bool:
        return config.decay_norm_and_bias or (parameter.ndim >= 2 and id(parameter) not in spared)

    decayed = [parameter for parameter in parameters if decays(parameter)]
    others = [parameter for parameter in parameters if not decays(parameter)]
    both = [("decay", decayed, config.weight_decay), ("no_decay", others, 0.0)]
    return [group for group in both if group[1]]


def _make(config: OptimizerConfig, split: list[dict[str, Any]], fused: bool | None) -> torch.optim.Optimizer:
    """torch's optimizer of that name over these groups."""
    lr, betas = config.lr, (config.betas[0], config.betas[1])
    eps: dict[str, Any] = {} if config.eps is None else {"eps": config.eps}
    if config.name == "adamw":
        return torch.optim.AdamW(split, lr=lr, betas=betas, fused=fused, **eps)
    if config.name == "adam":
        return torch.optim.Adam(split, lr=lr, betas=betas, fused=fused, **eps)
    if config.name == "rmsprop":
        return torch.optim.RMSprop(split, lr=lr, alpha=config.smoothing, momentum=config.momentum, **eps)
    if config.name == "adagrad":
        return torch.optim.Adagrad(split, lr=lr, **eps)
    sgd = torch.optim.SGD(split, lr=lr, momentum=config.momentum, nesterov=config.nesterov, fused=fused)
    if config.momentum:
        # Left to itself, torch 2.15 takes uninitialized memory for the momentum, which its fused kernel leaves as
        # it is when fp16 overflows in the first step.
        for parameter in (p for group in sgd.param_groups for p in group["params"]):
            sgd.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return sgd


def momentum_of(optimizer: torch.optim.Optimizer) -> float | None:
    """Momentum, or beta1, of the first group; None where there is neither (adagrad)."""
    group = optimizer.param_groups[0]
    return group["betas"][0] if "betas" in group else group.get("momentum")


def set_lr(optimizer: torch.optim.Optimizer, factor: float, momentum: float | None = None) -> None:
    """Sets each group's learning rate to factor times its initial one, and momentum (Adam's: beta1) unless None."""
    for group in optimizer.param_groups:
        group["lr"] = group["initial_lr"] * factor
        if momentum is None:
            continue
        if "betas" in group:
            group["betas"] = (momentum, group["betas"][1])
        elif "momentum" in group:
            group["momentum"] = momentum


def clip(optimizer: torch.optim.Optimizer, clip_norm: float | None) -> Tensor:
    """Scales the gradients down to a joint norm of clip_norm; returns the norm before, a scalar on the device.

    With None it only measures. With a GradScaler call `scaler.unscale_(optimizer)` first. Nothing waits for the
    device; a gradient that is not finite gives a norm that is not, and is left to the scaler or the loop.
    """
    parameters = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
    norm = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
    if clip_norm is not None:
        torch.nn.utils.clip_grads_with_norm_(parameters, clip_norm, norm)
    return norm
