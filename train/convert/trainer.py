"""pytorch-segmentation's trainer section in a recipe: length, validation, checkpoints, logs."""

from __future__ import annotations

import math

from ingest.errors import nearest
from train.convert.draft import Draft, Source

MONITORS = {"Mean_IoU": ("max", "miou"), "Pixel_Accuracy": ("max", "pixel_accuracy"), "val_loss": ("min", "loss")}
FIXED = (
    "scores: a class that no image shows counts as 0 in its Mean_IoU; here the mean is over the classes that occur in "
    "labels or predictions",
    "scores: mIoU and pixel accuracy of the training crops were measured at each step; here with train.train_miou=true",
    "epochs: its last, smaller batch was trained on, too; here an epoch ends with the last whole batch",
    "seed: it set none; here `seed` fixes weights, order and augmentation",
)


def trainer(source: Source, draft: Draft, batch: int) -> None:
    """The `train` section. batch: there, of all GPUs."""
    draft.set("train.epochs", source.take("trainer.epochs", int), "trainer.epochs")
    draft.set("train.amp", "auto", "new: bf16 or fp16 on GPUs; off: float32, as there")
    if source.take("use_synch_bn", bool, False):
        draft.set("train.sync_bn", True, "use_synch_bn")
    validates = bool(draft.values["data.val"])
    every = source.take("trainer.val_per_epochs", int, 1)
    if validates:
        draft.set("train.val_every_epochs", every, "trainer.val_per_epochs")
    _monitor(source, draft, validates)
    # there a number of images, as it were
    images = source.take("trainer.log_per_iter", int, 0)
    steps = images // batch + 1 if images else math.isqrt(batch)
    draft.set("train.log_every", max(1, steps), "trainer.log_per_iter / batch_size + 1, as computed there")
    period = source.take("trainer.save_period", int, None)
    if period is not None:
        draft.note(
            "trainer.save_period",
            period,
            "last.pt and best.pt are written at each validation (the best there only at such an epoch); to keep more, "
            "train.keep_every_steps (in steps)",
        )
    if not source.take("trainer.tensorboard", bool, True):
        draft.note("trainer.tensorboard", False, "events are always written, beside log.jsonl")
    logs = source.take("trainer.log_dir", str, None)
    if logs is not None:
        draft.note(
            "trainer.log_dir", logs, f"events go to the run folder; tensorboard --logdir {draft.values['output']}"
        )
    draft.fixed += FIXED


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
    if not validates:
        draft.note("trainer.monitor", monitor, "without validation it watched the training crops; here nothing does")
    draft.set("train.monitor", MONITORS[metric][1], "trainer.monitor")
    if stop and validates:
        # there it goes on while not more than early_stop validations were no better
        draft.set("train.patience", stop + 1, "trainer.early_stop")
        draft.note(
            "trainer.early_stop", stop, "counts validations, not epochs, here as there; it stopped after one more"
        )
    elif stop:
        draft.note("trainer.early_stop", stop, "needs validations; train.patience is left at 0")
