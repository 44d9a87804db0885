"""The training loop: stream -> loss -> step, with validation, checkpoints and an exact resume."""

from __future__ import annotations

import contextlib
import math
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.nn.parallel import DistributedDataParallel

import nets
from ingest.errors import UserError
from pipeline.batch import Batch
from pipeline.loader import EvalLoader, TrainLoader, available_threads
from pipeline.shards import ShardSet
from train import checkpoint, config, model, optimizers, provenance, schedules
from train.config import Recipe
from train.distributed import Ranks
from train.ema import Ema
from train.evaluate import Evaluation, Showcase, evaluate
from train.losses import SegmentationLoss
from train.tracking import Tracker
from train.window import Window


@dataclass(frozen=True)
class Summary:
    """How a run ended."""

    folder: Path
    step: int
    total_steps: int
    best_miou: float | None
    last: Evaluation | None
    classes: list[str]
    images_per_second: float
    """Training crops a second, over all ranks, of this call; without validation."""
    wait_share: float
    """Share of step time that this rank spent waiting for data, 0..1."""
    stopped_by: int | None = None
    """The signal that ended it before its last step."""


class Run:
    """One training run on one rank; every rank holds one."""

    def __init__(self, recipe: Recipe, world: Ranks, folder: Path, state: dict[str, Any] | None = None) -> None:
        """state: the checkpoint to go on from; None starts anew. UserError when recipe, data and state do not fit."""
        self.recipe, self.world, self.folder = recipe, world, folder
        train, data = recipe.train, recipe.data
        shards = ShardSet(data.path, data.train)
        self.facts = model.dataset_facts(shards.manifest)
        data_device = torch.device("cpu") if data.device == "cpu" else world.device
        if data.device == "gpu" and world.device.type != "cuda":
            raise UserError("data.device = gpu, but the net is on the CPU: use data.device=cpu")
        threads = data.threads or available_threads(world.local_world)
        place: dict[str, Any] = {
            "device": data_device,
            "threads": threads,
            "prefetch": data.prefetch,
            "rank": world.rank,
            "world": world.world,
        }
        self.loader = TrainLoader(shards, recipe.augment, data.batch_size, seed=recipe.seed, **place)
        self.val_loader = EvalLoader(ShardSet(data.path, data.val), data.val_batch_size, **place) if data.val else None
        self.accumulate = recipe.optimizer.accumulate
        epoch_steps = self.loader.steps_per_epoch / self.accumulate
        self.total_steps = train.steps or max(1, math.ceil(train.epochs * epoch_steps))
        self.val_every = train.val_every_steps or max(1, round(train.val_every_epochs * epoch_steps))

        torch.manual_seed(recipe.seed)
        self.net = model.build(recipe.net, self.facts)
        self.step, self.best = 0, None
        if state is not None:
            model.check_classes(state["dataset"], shards.manifest)
            model.load_weights(self.net, state["model"], recipe.net.name)
        memory = torch.channels_last if train.channels_last else torch.contiguous_format
        self.net = self.net.to(world.device).to(memory_format=memory)
        if train.sync_bn and world.world > 1:
            if world.device.type != "cuda":
                raise UserError("train.sync_bn = true needs GPUs: torch has no synchronised batch norm on CPUs")
            self.net = torch.nn.SyncBatchNorm.convert_sync_batchnorm(self.net)
        self.ema = Ema(self.net, train.ema) if train.ema else None
        groups = nets.parameter_groups(self.net)
        self.optimizer = optimizers.build(recipe.optimizer, groups, world.device)
        self.scaler = torch.amp.GradScaler(
            world.device.type, enabled=model.amp_dtype(train.amp, world.device) is torch.float16
        )
        class_pixels = shards.manifest.split(data.train).class_pixels
        self.loss = SegmentationLoss(recipe.loss, len(self.facts["classes"]), class_pixels).to(world.device)
        if state is not None:
            self.optimizer.load_state_dict(state["optimizer"])
            self.scaler.load_state_dict(state["scaler"])
            self.loader.load_state_dict(state["loader"])
            if self.ema is not None and state.get("ema"):  # else the average starts from the weights of here
                self.ema.load_state_dict(state["ema"])
            self.step, self.best = state["step"], state["best"]
        self.ddp: DistributedDataParallel | None = None
        if world.world > 1:
            ids = [world.device.index] if world.device.type == "cuda" else None
            self.ddp = DistributedDataParallel(self.net, device_ids=ids, gradient_as_bucket_view=True)
        forward = self.ddp or self.net
        self.forward = torch.compile(forward) if train.compile else forward
        self._stop: int | None = None

    def train(self) -> Summary:
        """Trains to the last step (or a signal), validating, saving and telling as the recipe says."""
        tracker = Tracker(self.folder if self.world.is_main else None, self.step, self.total_steps)
        previous = {number: signal.signal(number, self._on_signal) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            # closing: the loader's thread ends with the loop, also when the loop ends in an error
            with contextlib.closing(iter(self.loader)) as batches:
                return self._train(tracker, batches)
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)
            tracker.close()

    def _train(self, tracker: Tracker, batches: Iterator[Batch]) -> Summary:
        train, world = self.recipe.train, self.world
        tracker.text("recipe", config.to_yaml(self.recipe))
        tracker.event(self.step, what="start", **provenance.versions())
        window = Window(world, self.loader.batch_size, self.accumulate)
        last: Evaluation | None = None
        self.net.train()
        while self.step < self.total_steps:
            losses, norm = self._one_step(batches, window)
            self.step += 1
            window.add(losses, norm)
            tracker.advance()
            ends = self.step == self.total_steps
            validates = self.val_loader is not None and (ends or self.step % self.val_every == 0)
            saves = ends or validates or bool(train.save_every_steps and self.step % train.save_every_steps == 0)
            logs = saves or self.step % train.log_every == 0
            # Ranks must stop at the same step: they agree at log steps; alone, at any.
            stops = (logs and world.any(self._stop is not None)) if world.world > 1 else self._stop is not None
            if logs or stops:
                self._log(tracker, window)
            if validates or saves:
                # Running statistics are each rank's own; all validate with those that the main rank saves.
                world.broadcast_tensors(self.net.buffers())
            if validates:
                last = self._validate(tracker)
            if saves or stops:
                self._save("last", tracker)
            if validates or saves:
                window.restart()
            if stops:
                tracker.event(self.step, what="stopped", signal=self._stop)
                number = self._stop or signal.SIGTERM
                tracker.say(f"stopped at step {self.step} by {signal.Signals(number).name}; go on with --resume auto")
                break
        return Summary(
            self.folder,
            self.step,
            self.total_steps,
            self.best,
            last,
            self.facts["classes"],
            window.images_per_second,
            window.wait_share,
            self._stop if self.step < self.total_steps else None,
        )

    def _one_step(self, batches: Iterator[Batch], window: Window) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        """One optimiser step. Returns the loss's parts and the gradient's norm, on the device."""
        recipe, world = self.recipe, self.world
        # Dropout is a function of (seed, step, rank), so that an interruption does not show.
        torch.manual_seed(hash((recipe.seed, self.step, world.rank)) & 0x7FFF_FFFF_FFFF_FFFF)
        factor = schedules.lr_factor(recipe.schedule, self.step, self.total_steps)
        momentum = schedules.momentum_at(recipe.schedule, self.step, self.total_steps)
        optimizers.set_lr(self.optimizer, factor, momentum)
        totals: dict[str, torch.Tensor] = {}
        for part in range(self.accumulate):
            batch = window.next(batches)
            images = batch.images.to(world.device, non_blocking=True)
            assert batch.labels is not None
            labels = batch.labels.to(world.device, non_blocking=True)
            # Gradients meet over the ranks once a step, with the last part.
            if self.ddp is not None:
                self.ddp.require_backward_grad_sync = part == self.accumulate - 1
            with model.autocast(recipe.train.amp, world.device):
                logits = self.forward(images)
            loss, parts = self.loss(logits, labels)
            self.scaler.scale(loss / self.accumulate).backward()
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

    def _log(self, tracker: Tracker, window: Window) -> None:
        """Meets the device, judges the losses since the last log, and writes them down. UserError on NaN."""
        values, bad_step = window.flush(self.step)
        if bad_step is not None:
            raise UserError(
                f"the loss is not finite at step {bad_step} ({window.blame(bad_step, self.step)}): "
                f"{self._last_good()}; lower optimizer.lr, set optimizer.clip_norm=1 or train.amp=off"
            )
        rate = {group["name"].replace("/", "_"): group["lr"] for group in self.optimizer.param_groups}
        tracker.scalars(self.step, "train", values)
        tracker.scalars(self.step, "lr", rate)
        tracker.show(
            self.step,
            loss=f"{values['loss']:.3f}",
            **{"img/s": f"{values['images_per_second']:.1f}", "wait": f"{100 * values['data_wait_share']:.1f}%"},
        )

    def _validate(self, tracker: Tracker) -> Evaluation:
        assert self.val_loader is not None
        showcase = Showcase(self.val_loader.shards, self.recipe.train.pictures)
        amp = model.scoring_amp(self.recipe.train.amp, self.world.device)
        with self.ema.averaged(self.net) if self.ema is not None else contextlib.nullcontext():
            found = evaluate(self.net, self.val_loader, self.world, amp, showcase.look)
        self.net.train()
        sheet = showcase.sheet(self.world)
        if sheet is not None:
            tracker.picture(self.step, "val/images", sheet)
        scores = found.scores
        named = {f"iou/{name}": iou for name, iou in zip(self.facts["classes"], scores.iou, strict=True)}
        values = {"miou": scores.miou, "pixel_accuracy": scores.pixel_accuracy, **named}
        speed = {"images_per_second": found.images_per_second}
        tracker.scalars(self.step, "val", {k: v for k, v in values.items() if v is not None} | speed)
        if scores.miou is not None:
            tracker.show(self.step, mIoU=f"{100 * scores.miou:.2f}%")
            if self.best is None or scores.miou > self.best:
                self.best = scores.miou
                self._save("best", tracker)
                tracker.event(self.step, what="best", miou=self.best)
        return found

    def _save(self, name: str, tracker: Tracker) -> None:
        """Writes <name>.pt from the main rank. A full disk costs the checkpoint, not the run."""
        if not self.world.is_main:
            return
        state = {
            "model": self.net.state_dict(),
            "ema": self.ema.state_dict() if self.ema is not None else None,
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "loader": self.loader.state_dict(),
            "step": self.step,
            "best": self.best,
            "config": config.to_dict(self.recipe),
            "dataset": self.facts,
            "versions": provenance.versions(),
        }
        path = self.folder / "checkpoints" / f"{name}.pt"
        try:
            checkpoint.save(path, state)
        except OSError as error:
            kept = "the one before it is kept" if path.exists() else "there is none yet"
            tracker.say(f"warning: {path} could not be written ({error.strerror}): {kept}; free some space. Going on.")
            tracker.event(self.step, what="checkpoint not written", file=str(path), error=str(error))

    def _last_good(self) -> str:
        path = self.folder / "checkpoints" / "last.pt"
        return f"{path} is from before" if path.exists() else "no checkpoint was written before"

    def _on_signal(self, number: int, frame: Any) -> None:
        if self._stop is not None:
            raise KeyboardInterrupt  # asked twice: now
        self._stop = number
