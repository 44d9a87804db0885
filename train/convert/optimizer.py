"""pytorch-segmentation's loss, optimizer and lr_scheduler in a recipe."""

from __future__ import annotations

from typing import Any

from ingest.errors import nearest
from train.convert.draft import Draft, Source
from train.convert.nets import Arch

LOSSES: dict[str, dict[str, float]] = {
    "CrossEntropyLoss2d": {"ce": 1.0},
    "DiceLoss": {"dice": 1.0},
    "FocalLoss": {"focal": 1.0},
    "CE_DiceLoss": {"ce": 1.0, "dice": 1.0},
    "LovaszSoftmax": {"lovasz": 1.0},
}
SCHEDULES = {"Poly": "poly", "OneCycle": "onecycle"}
# torch.optim's name -> ours, its default learning rate there, and its arguments: theirs -> ours
OPTIMIZERS: dict[str, tuple[str, float, dict[str, str]]] = {
    "SGD": ("sgd", 0.001, {"momentum": "momentum"}),
    "Adam": ("adam", 0.001, {"eps": "eps"}),
    "AdamW": ("adamw", 0.001, {"eps": "eps"}),
    "RMSprop": ("rmsprop", 0.01, {"momentum": "momentum", "alpha": "smoothing", "eps": "eps"}),
    "Adagrad": ("adagrad", 0.01, {"eps": "eps"}),
}
# the others of torch.optim
OTHERS = ("ASGD", "Adadelta", "Adafactor", "Adamax", "LBFGS", "Muon", "NAdam", "RAdam", "Rprop", "SparseAdam")


def loss(source: Source, draft: Draft) -> None:
    """The `loss` section."""
    name = source.take("loss", str)
    if name not in LOSSES:
        raise source.error("loss", name, f"no such loss there{nearest(name, LOSSES)}")
    for term, weight in LOSSES[name].items():
        draft.set(f"loss.{term}", weight, "loss")
    if draft.values.get("net.aux"):
        draft.set("loss.aux_weight", 0.4, "fixed there for PSPNet and PSPDenseNet")
    if "dice" in LOSSES[name]:
        draft.note(
            "loss",
            name,
            "Dice counted ignored pixels as the batch's lowest class, in all scores as well, and all classes as one, "
            "smoothed by 1; here per class, without them",
        )
    if name == "FocalLoss":
        draft.set("loss.focal_gamma", 2.0, "fixed there")
        draft.note("loss", name, "its mean counted ignored pixels; here it is over the valid ones, so a little larger")
    if name == "LovaszSoftmax":
        draft.set("loss.lovasz_classes", "present", "fixed there")
        draft.set("loss.lovasz_per_image", False, "fixed there")
    ignore = source.take("ignore_index", int, 255)
    if ignore != 255:
        draft.note("ignore_index", ignore, "shards always hold 255 for what is ignored; ingest sees to it")


def optimizer(source: Source, draft: Draft, arch: Arch) -> str:
    """The `optimizer` section; our name for it."""
    kind = source.take("optimizer.type", str)
    name, default_lr, arguments = OPTIMIZERS.get(kind, OPTIMIZERS["Adam"])
    if kind not in OPTIMIZERS:
        if kind not in OTHERS:
            raise source.error(
                "optimizer.type", kind, f"torch.optim has none of that name{nearest(kind, [*OPTIMIZERS, *OTHERS])}"
            )
        draft.note("optimizer.type", kind, "not offered here; adam stands in for it, choose by optimizer.name and lr")
    draft.set("optimizer.name", name, "optimizer.type")
    lr = source.take("optimizer.args.lr", float, default_lr)
    draft.set("optimizer.lr", lr, "optimizer.args.lr")
    decay = source.take("optimizer.args.weight_decay", float, 0.01 if kind == "AdamW" else 0.0)
    draft.set("optimizer.weight_decay", decay, "optimizer.args.weight_decay")
    if decay:
        draft.set("optimizer.decay_norm_and_bias", True, "everything decayed there")
    for theirs, ours in arguments.items():
        value = source.take(f"optimizer.args.{theirs}", float, 0.0 if theirs == "momentum" else None)
        if value is not None:
            draft.set(f"optimizer.{ours}", value, f"optimizer.args.{theirs}")
    if name in ("adam", "adamw") and (betas := _betas(source)) is not None:
        draft.set("optimizer.betas", betas, "optimizer.args.betas")
    if name == "sgd" and source.take("optimizer.args.nesterov", bool, False):
        draft.set("optimizer.nesterov", True, "optimizer.args.nesterov")
    if source.take("optimizer.differential_lr", bool, False):
        if arch.backbone_lr:
            draft.set("optimizer.backbone_lr_scale", 0.1, "optimizer.differential_lr")
        else:
            draft.note("optimizer.differential_lr", True, "all of this net had the full learning rate there; so here")
    return name


def _betas(source: Source) -> list[float] | None:
    raw = dict(source.left()).get("optimizer.args.betas")
    if raw is None:
        return None
    if not isinstance(raw, list) or len(raw) != 2 or not all(isinstance(beta, float) for beta in raw):
        raise source.error("optimizer.args.betas", raw, "expected two numbers, such as [0.9, 0.999]")
    source.drop("optimizer.args.betas")
    return raw


def schedule(source: Source, draft: Draft, optimizer_name: str) -> None:
    """The `schedule` section."""
    kind = source.take("lr_scheduler.type", str)
    if kind not in SCHEDULES:
        raise source.error("lr_scheduler.type", kind, f"no such schedule there{nearest(kind, SCHEDULES)}")
    draft.set("schedule.name", SCHEDULES[kind], "lr_scheduler.type")
    if kind == "Poly":
        draft.set("schedule.power", 0.9, "fixed there")
    else:
        draft.set("schedule.onecycle_start", 25.0, "fixed there: from lr/25")
        draft.set("schedule.onecycle_rise", 0.3, "fixed there")
        draft.set("schedule.onecycle_end", 250000.0, "fixed there: to lr/250000")
        # it sets "momentum", which only these have
        moved: list[Any] = [0.95, 0.85] if optimizer_name in ("sgd", "rmsprop") else []
        draft.set("schedule.onecycle_momentum", moved, "fixed there")
        draft.note("lr_scheduler.type", kind, "the rise is a line here, half a cosine there; the fall is the same")
    draft.fixed.append(f"{kind}: it is one step further along there: its first step has the rate of our second")
    for key, value in [(key, value) for key, value in source.left() if key.startswith("lr_scheduler.args.")]:
        source.drop(key)
        hint = "schedule.warmup_steps (in steps)" if key.endswith("warmup_epochs") else "the schedule's own keys"
        draft.note(key, value, f"never reached the schedule there; for it to work here use {hint}")
