"""The training loop: stream -> loss -> step, with validation, checkpoints and an exact resume."""

from __future__ import annotations

import contextlib
import inspect
import math
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from timm.layers import convert_sync_batchnorm
from torch.nn.parallel import DistributedDataParallel

import nets
from ingest.errors import UserError
from ingest.shards.reader import ShardSet
from pipeline.batch import Batch
from pipeline.config import Stream
from pipeline.feeding import for_split, of_recipe
from pipeline.loader import EvalLoader, TrainLoader
from train import backends, config, finish, model
from train.checkpoints import resume
from train.checkpoints.monitor import Monitor
from train.checkpoints.saver import Saver
from train.config import Recipe
from train.distributed import Ranks
from train.evaluate.evaluation import Evaluation
from train.evaluate.metrics import ConfusionMatrix
from train.evaluate.validation import Validator, validation_shards
from train.log import provenance
from train.log.summary import Summary
from train.log.tracking import Tracker
from train.log.window import Window
from train.losses import SegmentationLoss
from train.losses.class_weights import PixelCounts
from train.optim import optimizers, schedules
from train.optim.ema import Ema, averaged_state

_NEW_NAME = "forward_sync_buffers" in inspect.signature(DistributedDataParallel.__init__).parameters
_OWN_BUFFERS: dict[str, Any] = {"forward_sync_buffers" if _NEW_NAME else "broadcast_buffers": False}
_CALMER = "lower optimizer.lr, set optimizer.clip_norm=1 or train.amp=off"


class Run:
    """One training run on one rank; every rank holds one."""

    def __init__(self, recipe: Recipe, world: Ranks, folder: Path, state: dict[str, Any] | None = None) -> None:
        """state: the checkpoint to go on from; None starts anew. UserError when recipe, data and state do not fit."""
        self.recipe, self.world, self.folder = recipe, world, folder
        train, data = recipe.train, recipe.data
        backends.set_tf32(train.tf32, world.device)
        shards = ShardSet(data.path, data.train)
        self.facts = model.dataset_facts(shards.manifest)
        if state is not None:
            resume.check(state)
            model.check_classes(state["dataset"], shards.manifest)
        batch_size = data.batch_size if state is None else resume.batch_size(recipe, state, world.world)
        feeding = of_recipe(data, world.device, world.rank, world.world, world.local_world)
        stream = Stream(recipe.seed, batch_size, data.shuffle_window, recipe.augment)
        self.loader = TrainLoader(shards, stream, for_split(feeding, data.device, shards))
        self.validator: Validator | None = None
        if data.val:
            val_shards = validation_shards(data, shards.manifest)
            val_feeding = for_split(feeding, data.device, val_shards)
            val_loader = EvalLoader(val_shards, data.val_batch_size, val_feeding)
            self.validator = Validator(val_loader, world, train, self.facts, data)
        self.accumulate = recipe.optimizer.accumulate
        epoch_steps = self.loader.steps_per_epoch / self.accumulate
        self.total_steps = train.steps or max(1, math.ceil(train.epochs * epoch_steps))
        self.val_every = train.val_every_steps or max(1, round(train.val_every_epochs * epoch_steps))
        self.monitor = Monitor(train.monitor, self.facts["classes"], train.patience, train.keep_best)

        torch.manual_seed(recipe.seed)
        self.net = model.build(recipe.net, self.facts, state)
        model.check_batch(self.net, recipe, batch_size, world.world)
        if state is not None:
            model.load_weights(self.net, state["model"], recipe.net.name)
        memory = torch.channels_last if train.channels_last else torch.contiguous_format
        self.net = self.net.to(world.device).to(memory_format=memory)
        if train.sync_bn and world.world > 1:
            if world.device.type != "cuda":
                raise UserError("train.sync_bn = true needs GPUs: torch has no synchronised batch norm on CPUs")
            # timm's, since its batch norms contain the activation, which torch's conversion would drop.
            self.net = convert_sync_batchnorm(self.net)
        self.ema = Ema(self.net, train.ema) if train.ema else None
        self.optimizer = optimizers.for_net(recipe.optimizer, self.net, world.device)
        self.scaler = torch.amp.GradScaler(
            world.device.type, enabled=model.amp_dtype(train.amp, world.device) is torch.float16
        )
        split = shards.manifest.split(data.train)
        counts = PixelCounts(split.class_pixels, split.class_image_pixels)
        self.loss = SegmentationLoss(recipe.loss, len(self.facts["classes"]), counts).to(world.device)
        self.counts = ConfusionMatrix(len(self.facts["classes"]), world.device) if train.train_miou else None
        self.step = 0
        self._unjudged = False  # whether the weights of `step` are saved, but not yet validated
        if state is not None:
            self._restore(state)
        self.ddp: DistributedDataParallel | None = None
        if world.world > 1:
            world.at("the start of training")
            ids = [world.device.index] if world.device.type == "cuda" else None
            self.ddp = DistributedDataParallel(
                self.net,
                device_ids=ids,
                gradient_as_bucket_view=True,
                # Running statistics are sent where they are used, see `_train`. torch is renaming this.
                **_OWN_BUFFERS,
            )
        forward = self.ddp or self.net
        self.forward = torch.compile(forward) if train.compile else forward
        self._stop: int | None = None
        self._stop_asked = 0.0
        self._doing = "this step"
        self._saved = True

    @property
    def saver(self) -> Saver:
        """Of this run's folder."""
        return Saver(self.folder, self.world.is_main)

    @property
    def done(self) -> bool:
        """No step is left, or the patience is exhausted."""
        return self.step >= self.total_steps or self.monitor.exhausted

    def train(self) -> Summary:
        """Trains to the last step (or a signal), validating, saving and telling as the recipe says."""
        folder = self.folder if self.world.is_main else None
        tracker = Tracker(folder, self.step, self.total_steps, self._unjudged)
        previous = {number: signal.signal(number, self._on_signal) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            # closing: the loader's thread ends with the loop, also when the loop ends in an error
            with (
                backends.autotuned(self.recipe.train.cudnn_benchmark, self.world.device),
                contextlib.closing(iter(self.loader)) as batches,
            ):
                return self._train(tracker, batches)
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)
            tracker.close()

    def _train(self, tracker: Tracker, batches: Iterator[Batch]) -> Summary:
        train, world = self.recipe.train, self.world
        tracker.text("recipe", config.to_yaml(self.recipe))
        tracker.event(
            self.step, what="start", ranks=world.world, batch=self.loader.global_batch, **provenance.versions()
        )
        if self.step == 0 and (source := nets.pretrained_source(self.net)) is not None:
            tracker.say(f"the encoder starts from {source}")
        window = Window(world, self.loader.batch_size, self.accumulate)
        last: Evaluation | None = None
        self.net.train()
        if self._unjudged and self.validator is not None:
            last = self._judge(tracker)
        while not self.done:
            losses, norm = self._one_step(batches, window)
            self.step += 1
            window.add(losses, norm, may_overflow=self.scaler.is_enabled())
            tracker.advance()
            ends = self.step == self.total_steps
            validates = self.validator is not None and (ends or self.step % self.val_every == 0)
            saves = ends or validates or _every(train.keep_every_steps, self.step)
            saves = saves or _every(train.save_every_steps, self.step)
            logs = saves or self.step % train.log_every == 0
            # Ranks must stop at the same step: they agree at log steps; alone, at any.
            stops = (logs and world.any(self._stop is not None)) if world.world > 1 else self._stop is not None
            if logs or stops:
                self._log(tracker, window)
            if saves or stops:
                # Running statistics are each rank's own; all validate with those that the main rank saves.
                world.broadcast_tensors([*self.net.buffers(), *(self.ema.statistics() if self.ema else [])])
                self._refuse_broken()
                # Before a validation, too: whoever is killed in a long one is to lose no step.
                self._save(tracker, unjudged=validates)
            if validates:
                last = self._judge(tracker)
                stops = world.any(self._stop is not None)
            if saves:
                window.restart()
            if stops and not self.done:
                self._stop = next(number for number in world.gather(self._stop) if number is not None)
                tracker.event(self.step, what="stopped", signal=self._stop)
                number = self._stop or signal.SIGTERM
                tracker.say(f"stopped at step {self.step} by {signal.Signals(number).name}; go on with --resume auto")
                break
        if self.done:
            last = self._finish(last, tracker)
        return Summary(
            self.folder,
            self.step,
            self.total_steps,
            self.monitor.best.miou if self.monitor.best else None,
            self.monitor.describe(),
            last,
            self.facts["classes"],
            window.images_per_second,
            window.wait_share,
            None if self.done else self._stop,
            early=self.step < self.total_steps and self.monitor.exhausted,
            saved=self._saved,
        )

    def _one_step(self, batches: Iterator[Batch], window: Window) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        """One optimiser step. Returns the loss's parts and the gradient's norm, on the device."""
        recipe, world = self.recipe, self.world
        # Dropout is a function of (seed, step, rank), so that an interruption does not show.
        torch.manual_seed(hash((recipe.seed, self.step, world.rank)) & 0x7FFF_FFFF_FFFF_FFFF)
        self._set_lr(self.step)
        totals: dict[str, torch.Tensor] = {}
        for part in range(self.accumulate):
            world.at(f"step {self.step + 1}, the next batch")
            batch = window.next(batches)
            images, labels = batch.images, batch.labels
            assert labels is not None
            world.at(f"step {self.step + 1}, the net")
            # Gradients meet over the ranks once a step, with the last part.
            if self.ddp is not None:
                self.ddp.require_backward_grad_sync = part == self.accumulate - 1
            with model.autocast(recipe.train.amp, world.device):
                logits = self.forward(images)
            loss, parts = self.loss(logits, labels)
            self.scaler.scale(loss / self.accumulate).backward()
            if self.counts is not None:
                self.counts.update(logits.out, labels)
            for name, value in parts.items():
                totals[name] = totals.get(name, torch.zeros_like(value)) + value / self.accumulate
        self.scaler.unscale_(self.optimizer)
        norm = optimizers.clip(self.optimizer, recipe.optimizer.clip_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        if self.ema is not None:
            self.ema.update(self.net)
        return totals, norm

    def _set_lr(self, step: int) -> None:
        """The learning rate (and momentum, where it is scheduled) of the step that follows `step` steps."""
        shape = self.recipe.schedule
        factor = schedules.lr_factor(shape, step, self.total_steps)
        optimizers.set_lr(self.optimizer, factor, schedules.momentum_at(shape, step, self.total_steps))

    def _log(self, tracker: Tracker, window: Window) -> None:
        """Meets the device, judges the losses since the last log, and writes them down. UserError on NaN."""
        values, bad_step = window.flush(self.step)
        if bad_step is not None:
            who = window.blame(bad_step, self.step)
            if spoilt := int(self.world.sum_(self.loss.bad_pixels).item()):
                raise UserError(
                    f"labels hold values outside the {len(self.facts['classes'])} classes, {spoilt} pixels by step "
                    f"{self.step}, the first at step {bad_step} ({who}): check the shards with `python -m ingest "
                    f"verify`; {self.saver.last_good()}"
                )
            what = f"the loss or its gradient is not finite at step {bad_step} ({who})"
            raise UserError(f"{what}: {self.saver.last_good()}; {_CALMER}")
        if self.counts is not None:
            miou = self.counts.all_reduce().result().miou
            values |= {} if miou is None else {"miou": miou}
            self.counts.reset()
        for key, reason in window.newly_skipped.items():
            tracker.say(f"warning: sample {key!r} counts for nothing: {reason}; see `python -m ingest verify`")
            tracker.event(self.step, what="skipped", key=key, reason=reason)
        groups = self.optimizer.param_groups
        if (momentum := optimizers.momentum_of(self.optimizer)) is not None:
            values["momentum"] = momentum
        tracker.scalars(self.step, "train", values)
        tracker.scalars(self.step, "lr", {group["name"].replace("/", "_"): group["lr"] for group in groups})
        tracker.show(
            self.step,
            loss=f"{values['loss']:.3f}",
            **{"img/s": f"{values['images_per_second']:.1f}", "wait": f"{100 * values['data_wait_share']:.1f}%"},
        )

    def _refuse_broken(self) -> None:
        """UserError when a weight is not finite: its checkpoint would replace a good one.

        Every rank finds the same: parameters are equal, and so are statistics once they were broadcast.
        """
        values = [value.detach() for value in averaged_state(self.net).values()]
        if not bool(torch.nn.utils.get_total_norm(values, math.inf).isfinite()):
            raise UserError(f"the weights are not finite after step {self.step}: {self.saver.last_good()}; {_CALMER}")

    def _judge(self, tracker: Tracker) -> Evaluation:
        """Validates the weights of this step, and saves what comes of it."""
        self._doing = f"this validation, a while; step {self.step} is saved"
        found = self._validate(tracker)
        self._save(tracker)
        self._doing = "this step"
        return found

    def _validate(self, tracker: Tracker) -> Evaluation:
        assert self.validator is not None
        self.world.at(f"the validation of step {self.step}")
        ends = self.step == self.total_steps or self.monitor.may_end
        found = self.validator.score(self.net, self.ema, self.loss, last=ends)
        self.net.train()
        self.validator.tell(found, self.step, tracker)
        if self.monitor.judge(found, self.step):
            tracker.event(self.step, what="best", **{self.monitor.name: self.monitor.value(found)})
        return found

    def _save(self, tracker: Tracker, unjudged: bool = False) -> None:
        """unjudged: these weights are still to be validated; only then they get their other names."""
        keeps = _every(self.recipe.train.keep_every_steps, self.step)
        best = self.monitor.names(self.step)
        names = ["last"] if unjudged else [*best, *([f"step-{self.step}"] if keeps else []), "last"]
        self._unjudged = unjudged
        self.world.at(f"the checkpoint of step {self.step}")
        state = {
            "model": self.net.state_dict(),
            "ema": self.ema.state_dict() if self.ema is not None else None,
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "loader": self.loader.state_dict(),
            "step": self.step,
            "unjudged": unjudged,
            "monitor": self.monitor.state_dict(),
            "batch": resume.batch_facts(self.loader.batch_size, self.world.world, self.accumulate),
            "config": config.to_dict(self.recipe),
            "dataset": self.facts,
            "versions": provenance.versions(),
            "threads": torch.get_num_threads(),
        }
        missing = self.world.broadcast(self.saver.write(names, state, self.step, tracker))
        self._saved = "last" not in missing
        if set(missing) & set(best):
            self.monitor.lost()
        elif not unjudged:
            self.saver.keep_best(self.monitor.kept_steps)

    def _restore(self, state: dict[str, Any]) -> None:
        resume.load_optimizer(self.optimizer, self.recipe, state)
        if state["scaler"]:  # empty where it was not fp16: then the scale starts anew
            self.scaler.load_state_dict(state["scaler"])
        self.loader.load_state_dict(state["loader"])
        if self.ema is not None and state.get("ema"):  # else the average starts from the weights of here
            self.ema.load_state_dict(state["ema"])
        self.monitor.load_state_dict(state["monitor"])
        self.step, self._unjudged = state["step"], state.get("unjudged", False)
        if self.step:  # a checkpoint written before the next step is to hold what it held without the interruption
            self._set_lr(self.step - 1)

    def _finish(self, last: Evaluation | None, tracker: Tracker) -> Evaluation | None:
        """What a finished run leaves behind. One that was finished before is scored again only if need be."""
        if self.step < self.total_steps:
            tracker.say(f"stopped early at step {self.step}: {self.monitor.reason()}")
        known = last is not None or self.world.broadcast(finish.validated(self.folder, self.step))
        if not known and self.validator is not None:
            last = self.validator.score(self.net, self.ema, self.loss, last=True)
        self.world.at("the report")
        facts = {"step": self.step, "split": self.recipe.data.val, "best": self.monitor.state_dict()["best"]}
        extremes = self.validator.extremes if self.validator is not None else None
        finish.finish(self.folder, last, extremes, facts, self.facts["classes"], self.world, tracker)
        return last

    def _on_signal(self, number: int, frame: Any) -> None:
        now = time.monotonic()
        # Ctrl-C reaches a rank twice, from the terminal and from torchrun.
        if self._stop is not None and not (self.world.world > 1 and now - self._stop_asked < 1):
            raise KeyboardInterrupt  # asked twice: now
        if self._stop is None and self.world.is_main:
            # os.write: the signal may have come in the middle of a print
            text = f"\n{signal.Signals(number).name}: stopping after {self._doing}; once more to quit at once\n"
            with contextlib.suppress(OSError):
                os.write(2, text.encode())
        self._stop, self._stop_asked = number, now


def _every(period: int, step: int) -> bool:
    return bool(period) and step % period == 0
