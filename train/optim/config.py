"""The recipe's `optimizer` section. No torch: recipes are read without it."""

from __future__ import annotations

from dataclasses import dataclass, field

from ingest.errors import UserError, brief
from pipeline import checks

NAMES = ("sgd", "adamw", "adam", "rmsprop", "adagrad")


@dataclass
class OptimizerConfig:
    """The recipe's `optimizer` section."""

    name: str = "sgd"
    """sgd | adamw | adam | rmsprop | adagrad, as in torch.optim."""

    lr: float = 0.01
    """Base learning rate, of the head; the schedule multiplies it."""

    momentum: float = 0.9
    """sgd, rmsprop: momentum, in [0, 1)."""

    nesterov: bool = False
    """sgd: Nesterov's momentum."""

    betas: list[float] = field(default_factory=lambda: [0.9, 0.999])
    """adamw, adam: decay of the first and second moment."""

    smoothing: float = 0.99
    """rmsprop: decay of the squared gradient's average, torch's alpha."""

    eps: float | None = None
    """All but sgd: what the root of the squared gradient is kept away from zero by. Left out: torch's own."""

    weight_decay: float = 1e-4
    """adamw: decoupled decay, which multiplies weights by 1 - lr x weight_decay a step; the others: L2 penalty, added
    to the gradient. The same number means another strength in each."""

    decay_norm_and_bias: bool = False
    """Whether norms and biases (all parameters of fewer than two dimensions) decay too."""

    backbone_lr_scale: float = 1.0
    """Factor on the backbone's learning rate; 0.1 is usual from pretrained weights, 0 keeps it as it is."""

    layer_decay: float = 1.0
    """Factor on the learning rate a stage of the backbone, counted from its end: with stages 1..S the last has
    layer_decay^1, the first layer_decay^S, the stem layer_decay^(S+1); a plain ViT counts blocks. 1: off."""

    clip_norm: float | None = None
    """Largest norm of the whole gradient; a longer one is scaled down to it. Off when left out."""

    accumulate: int = 1
    """Batches whose gradients are averaged into one step; each counts alike, however many of its pixels are valid."""

    def __post_init__(self) -> None:
        checks.one_of("optimizer.name", self.name, NAMES)
        checks.number("optimizer.lr", self.lr, "(0, inf)")
        checks.number("optimizer.momentum", self.momentum, "[0, 1)")
        if len(self.betas) != 2:
            raise UserError(f"optimizer.betas = {brief(self.betas)}: expected two numbers, such as [0.9, 0.999]")
        for index, beta in enumerate(self.betas):
            checks.number(f"optimizer.betas[{index}]", beta, "[0, 1)")
        checks.number("optimizer.smoothing", self.smoothing, "[0, 1)")
        if self.eps is not None:
            checks.number("optimizer.eps", self.eps, "(0, 1]")
        checks.number("optimizer.weight_decay", self.weight_decay, "[0, inf)")
        checks.number("optimizer.layer_decay", self.layer_decay, "(0, 1]")
        checks.number("optimizer.backbone_lr_scale", self.backbone_lr_scale, "[0, inf)")
        if self.clip_norm is not None:
            checks.number("optimizer.clip_norm", self.clip_norm, "(0, inf)")
        checks.whole("optimizer.accumulate", self.accumulate, 1, 65536)
        if self.nesterov and (self.name != "sgd" or not self.momentum):
            raise UserError("optimizer.nesterov is true: it needs optimizer.name=sgd and optimizer.momentum above 0")
