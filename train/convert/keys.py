"""What each key of pytorch-segmentation's JSON config means in a recipe. Facts about its code, section by section."""

from __future__ import annotations

from typing import Any

from ingest.errors import nearest
from train.convert import data_keys
from train.convert.draft import Draft, Source

# arch.type -> net, its backbone when the config names none, and whether it starts from ImageNet weights by default
NETS: dict[str, tuple[str, str | None, bool]] = {
    "FCN8": ("fcn", None, True),
    "UNet": ("unet", None, False),
    "UNetResnet": ("unet", "resnet50", True),
    "SegNet": ("segnet", None, True),
    "SegResNet": ("segnet", "resnet50", True),
    "ENet": ("enet", None, False),
    "GCN": ("gcn", "resnet50", True),
    "DeepLab": ("deeplabv3plus", "xception", True),
    "DeepLab_DUC_HDC": ("duc", "resnet101", True),
    "UperNet": ("upernet", "resnet101", True),
    "PSPNet": ("pspnet", "resnet152", True),
    "PSPDenseNet": ("pspnet", "densenet201", True),
}
LOSSES: dict[str, dict[str, float]] = {
    "CrossEntropyLoss2d": {"ce": 1.0},
    "DiceLoss": {"dice": 1.0},
    "FocalLoss": {"focal": 1.0},
    "CE_DiceLoss": {"ce": 1.0, "dice": 1.0},
    "LovaszSoftmax": {"lovasz": 1.0},
}
MONITORS = {"Mean_IoU": ("max", "miou"), "Pixel_Accuracy": ("max", "pixel_accuracy"), "val_loss": ("min", "loss")}


def translate(source: Source, draft: Draft) -> None:
    """Fills the draft in a recipe's order."""
    draft.set("name", source.take("name", str, "run"), "name")
    trainer_output = source.take("trainer.save_dir", str, "saved")
    draft.set("output", trainer_output.rstrip("/") or "/", "trainer.save_dir")
    data_keys.data(source, draft)
    data_keys.augment(source, draft)
    encoder = _net(source, draft)
    _loss(source, draft)
    adam = _optimizer(source, draft, encoder)
    _schedule(source, draft, adam)
    _train(source, draft)


def _net(source: Source, draft: Draft) -> bool:
    """Whether the net has an encoder of its own, with a learning rate of its own."""
    arch = source.take("arch.type", str)
    if arch not in NETS:
        raise source.error("arch.type", arch, f"no such net there{nearest(arch, NETS)}")
    net, default, starts_pretrained = NETS[arch]
    draft.set("net.name", net, "arch.type")
    pretrained = source.take("arch.args.pretrained", bool, starts_pretrained)
    given = source.take("arch.args.backbone", str, None)
    if default is None or arch == "DeepLab_DUC_HDC" or arch == "SegResNet":
        if given not in (None, default):
            draft.note("arch.args.backbone", given, f"{arch} never read it; set net.backbone for another encoder")
        given = None
    backbone = given or default
    if backbone == "xception":
        backbone = "xception65"
        draft.note("arch.args.backbone", "xception", "timm's aligned Xception-65 is the nearest")
    if backbone is not None:
        draft.set("net.backbone", backbone, "arch.args.backbone" if given else "arch.type")
    has_encoder = net in ("fcn", "segnet") or backbone is not None
    if pretrained and not has_encoder:
        draft.note("arch.args.pretrained", True, f"{arch} has no pretrained part, here as there")
        pretrained = False
    draft.set("net.pretrained", pretrained, "arch.args.pretrained")
    stride = source.take("arch.args.output_stride", int, None)
    if stride is not None:
        if net in ("deeplabv3plus", "duc") and stride in (8, 16):
            draft.set("net.output_stride", stride, "arch.args.output_stride")
        else:
            draft.note("arch.args.output_stride", stride, f"{net} is left at its own; see python -m nets {net}")
    use_aux = source.take("arch.args.use_aux", bool, True)
    if net == "pspnet":
        draft.set("net.aux", use_aux, "arch.args.use_aux")
    options: dict[str, Any] = {}
    if net == "gcn":
        options = {
            "kernel_size": source.take("arch.args.num_filters", int, 11),
            "deconvolution": source.take("arch.args.use_deconv", bool, False),
        }
        if source.take("arch.args.use_resnet_gcn", bool, False):
            draft.note("arch.args.use_resnet_gcn", True, "no ResNet of large kernels here; a plain one is used")
    elif net == "upernet":
        options = {"channels": source.take("arch.args.fpn_out", int, 256)}
    elif net == "fcn":
        options = {"skips": 2}
    if options:
        draft.set("net.options", options, "arch.args")
    for key in ("freeze_bn", "freeze_backbone"):
        frozen = source.take(f"arch.args.{key}", bool, False)
        if key == "freeze_backbone" and frozen and not has_encoder:
            draft.note(f"arch.args.{key}", True, f"{arch} has no encoder to freeze; left out")
            continue
        if frozen:
            draft.set(f"net.{key}", True, f"arch.args.{key}")
        if key == "freeze_bn" and frozen:
            draft.note("arch.args.freeze_bn", True, "here scale and shift are frozen too, not only the statistics")
    channels = source.take("arch.args.in_channels", int, 3)
    if channels != 3:
        draft.note(
            "arch.args.in_channels", channels, "the dataset says how many channels there are (bands in its spec)"
        )
    return has_encoder


def _loss(source: Source, draft: Draft) -> None:
    loss = source.take("loss", str)
    if loss not in LOSSES:
        raise source.error("loss", loss, f"no such loss there{nearest(loss, LOSSES)}")
    for term, weight in LOSSES[loss].items():
        draft.set(f"loss.{term}", weight, "loss")
    if draft.values.get("net.aux"):
        draft.set("loss.aux_weight", 0.4, "PSPNet's, fixed there")
    if "dice" in LOSSES[loss]:
        draft.note(
            "loss", loss, "Dice counted ignored pixels as a class and all classes as one; here per class, without them"
        )
    if loss == "FocalLoss":
        draft.set("loss.focal_gamma", 2.0, "loss")
        draft.note("loss", loss, "its mean counted ignored pixels; here it is over the valid ones, so a little larger")
    ignore = source.take("ignore_index", int, 255)
    if ignore != 255:
        draft.note("ignore_index", ignore, "shards always hold 255 for what is ignored; ingest sees to it")


def _optimizer(source: Source, draft: Draft, has_encoder: bool) -> bool:
    """Whether it is one of Adam's family."""
    kind = source.take("optimizer.type", str)
    known = {"SGD": "sgd", "Adam": "adamw", "AdamW": "adamw"}
    if kind not in known:
        raise source.error("optimizer.type", kind, f"no equivalent{nearest(kind, known)}")
    adam = kind != "SGD"
    draft.set("optimizer.name", known[kind], "optimizer.type")
    if kind == "Adam":
        draft.note("optimizer.type", kind, "AdamW here: weight decay is apart from the gradient; 0.01 is usual for it")
    draft.set("optimizer.lr", source.take("optimizer.args.lr", float), "optimizer.args.lr")
    decay = source.take("optimizer.args.weight_decay", float, 0.01 if kind == "AdamW" else 0.0)
    draft.set("optimizer.weight_decay", decay, "optimizer.args.weight_decay")
    if decay:
        draft.set("optimizer.decay_norm_and_bias", True, "everything decayed there")
    if adam:
        betas = _betas(source)
        if betas is not None:
            draft.set("optimizer.betas", betas, "optimizer.args.betas")
    else:
        draft.set("optimizer.momentum", source.take("optimizer.args.momentum", float, 0.0), "optimizer.args.momentum")
        if source.take("optimizer.args.nesterov", bool, False):
            draft.set("optimizer.nesterov", True, "optimizer.args.nesterov")
    if source.take("optimizer.differential_lr", bool, False) and has_encoder:
        draft.set("optimizer.backbone_lr_scale", 0.1, "optimizer.differential_lr")
    return adam


def _betas(source: Source) -> list[float] | None:
    raw = dict(source.left()).get("optimizer.args.betas")
    if raw is None:
        return None
    if not isinstance(raw, list) or len(raw) != 2 or not all(isinstance(beta, float) for beta in raw):
        raise source.error("optimizer.args.betas", raw, "expected two numbers, such as [0.9, 0.999]")
    source.drop("optimizer.args.betas")
    return raw


def _schedule(source: Source, draft: Draft, adam: bool) -> None:
    kind = source.take("lr_scheduler.type", str)
    known = {"Poly": "poly", "OneCycle": "onecycle"}
    if kind not in known:
        raise source.error("lr_scheduler.type", kind, f"no such schedule there{nearest(kind, known)}")
    draft.set("schedule.name", known[kind], "lr_scheduler.type")
    if kind == "Poly":
        draft.set("schedule.power", 0.9, "fixed there")
    else:
        draft.set("schedule.onecycle_start", 25.0, "fixed there: from lr/25")
        draft.set("schedule.onecycle_rise", 0.3, "fixed there")
        draft.set("schedule.onecycle_end", 250000.0, "fixed there: to lr/250000")
        # torch's Adam has no momentum for it to set
        draft.set("schedule.onecycle_momentum", [] if adam else [0.95, 0.85], "fixed there")
        draft.note("lr_scheduler.type", kind, "the rise is a line here, half a cosine there; the fall is the same")
    for key, value in [(key, value) for key, value in source.left() if key.startswith("lr_scheduler.args.")]:
        source.drop(key)
        hint = "schedule.warmup_steps (in steps)" if key.endswith("warmup_epochs") else "the schedule's own keys"
        draft.note(key, value, f"never reached the schedule there; for it to work here use {hint}")


def _train(source: Source, draft: Draft) -> None:
    draft.set("train.epochs", source.take("trainer.epochs", int), "trainer.epochs")
    draft.set("train.amp", "auto", "new: bf16 or fp16 on GPUs; off: float32, as there")
    if source.take("use_synch_bn", bool, False):
        draft.set("train.sync_bn", True, "use_synch_bn")
    validates = bool(draft.values["data.val"])
    every = source.take("trainer.val_per_epochs", int, 1)
    if validates:
        draft.set("train.val_every_epochs", every, "trainer.val_per_epochs")
    _monitor(source, draft, validates)
    draft.set("train.log_every", source.take("trainer.log_per_iter", int, 20), "trainer.log_per_iter")
    period = source.take("trainer.save_period", int, None)
    if period is not None:
        draft.note(
            "trainer.save_period",
            period,
            "last.pt and best.pt are written at each validation; to keep more, train.keep_every_steps (in steps)",
        )
    if not source.take("trainer.tensorboard", bool, True):
        draft.note("trainer.tensorboard", False, "events are always written, beside log.jsonl")
    logs = source.take("trainer.log_dir", str, None)
    if logs is not None:
        draft.note(
            "trainer.log_dir", logs, f"events go to the run folder; tensorboard --logdir {draft.values['output']}"
        )


def _monitor(source: Source, draft: Draft, validates: bool) -> None:
    monitor = source.take("trainer.monitor", str, "off")
    stop = source.take("trainer.early_stop", int, 0)
    if monitor == "off":
        if stop:
            draft.note("trainer.early_stop", stop, "without a monitor it did nothing; train.patience is left at 0")
        return
    mode, _, metric = monitor.partition(" ")
    if metric not in MONITORS or mode != MONITORS[metric][0]:
        choices = [f"{mode} {name}" for name, (mode, _) in MONITORS.items()]
        raise source.error("trainer.monitor", monitor, f"no equivalent{nearest(monitor, [*choices, 'off'])}")
    draft.set("train.monitor", MONITORS[metric][1], "trainer.monitor")
    if stop and validates:
        # there it goes on while not more than early_stop validations were no better
        draft.set("train.patience", stop + 1, "trainer.early_stop")
        draft.note(
            "trainer.early_stop", stop, "counts validations, not epochs, here as there; it stopped after one more"
        )
    elif stop:
        draft.note("trainer.early_stop", stop, "needs validations; train.patience is left at 0")
