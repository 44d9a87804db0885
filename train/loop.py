"""The training loop: stream -> loss -> step, with validation, checkpoints and an exact resume."""

from __future__ import annotations

import math
import signal
import time
from collections import deque
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
from train.evaluate import Evaluation, Showcase, evaluate
from train.losses import SegmentationLoss
from train.tracking import Tracker


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
        groups = {name: [("", p) for p in group] for name, group in nets.parameter_groups(self.net).items()}
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
            return self._train(tracker)
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)
            tracker.close()

    def _train(self, tracker: Tracker) -> Summary:
        train, world = self.recipe.train, self.world
        tracker.text("recipe", config.to_yaml(self.recipe))
        tracker.event(self.step, what="start", **provenance.versions())
        batches = iter(self.loader)
        window = _Window(world, self.loader.batch_size * self.accumulate)
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
                window.pause()
            if saves or stops:
                self._save("last", tracker)
            if stops:
                tracker.event(self.step, what="stopped", signal=self._stop)
                number = self._stop or signal.SIGTERM
                tracker.say(f"stopped at step {self.step} by {signal.Signals(number).name}; go on with --resume auto")
                break
        batches.close()  # type: ignore[attr-defined]  # a generator: ends the loader's thread
        return Summary(
            self.folder,
            self.step,
            self.total_steps,
            self.best,
            last,
            self.facts["classes"],
            window.images_per_second,
            window.wait_share,
        )

    def _one_step(self, batches: Any, window: _Window) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        """One optimiser step. Returns the loss's parts and the gradient's norm, on the device."""
        recipe, world = self.recipe, self.world
        # Dropout is a function of (seed, step, rank), so that an interruption does not show.
        torch.manual_seed(hash((recipe.seed, self.step, world.rank)) & 0x7FFF_FFFF_FFFF_FFFF)
        factor = schedules.lr_factor(recipe.schedule, self.step, self.total_steps)
        momentum = schedules.momentum_at(recipe.schedule, self.step, self.total_steps)
        optimizers.set_lr(self.optimizer, factor, momentum)
        totals: dict[str, torch.Tensor] = {}
        for part in range(self.accumulate):
            batch: Batch = window.next(batches)
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
        return totals, norm

    def _log(self, tracker: Tracker, window: _Window) -> None:
        """Meets the device, judges the losses since the last log, and writes them down. UserError on NaN."""
        values, bad_step = window.flush(self.step)
        if bad_step is not None:
            keys = ", ".join(window.keys_of(bad_step, self.step))
            raise UserError(
                f"the loss is not finite at step {bad_step} (this rank's batch: {keys}): "
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
        found = evaluate(self.net, self.val_loader, self.world, self.recipe.train.amp, showcase.look)
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


class _Window:
    """Times and sums since the last log; sums stay on the device until then."""

    def __init__(self, world: Ranks, images_per_step: int) -> None:
        self._world, self._images = world, images_per_step * world.world
        self._sums: dict[str, torch.Tensor] = {}
        self._first_bad = torch.full((), 2**62, dtype=torch.int64, device=world.device)
        self._steps = self._all_steps = 0
        self._wait = self._all_wait = self._all_time = 0.0
        self._keys: deque[list[str]] = deque(maxlen=1000)
        self._start = time.perf_counter()

    def next(self, batches: Any) -> Batch:
        """The next batch, the wait for it counted."""
        start = time.perf_counter()
        batch: Batch = next(batches)
        self._wait += time.perf_counter() - start
        self._keys.append(batch.keys)
        return batch

    def add(self, losses: dict[str, torch.Tensor], norm: torch.Tensor) -> None:
        """One step's numbers; nothing here waits for the device."""
        for name, value in {**losses, "gradient_norm": norm}.items():
            self._sums[name] = self._sums.get(name, torch.zeros_like(value)) + value
        now = torch.full_like(self._first_bad, self._steps)
        self._first_bad = torch.where(losses["loss"].isfinite(), self._first_bad, self._first_bad.minimum(now))
        self._steps += 1

    def flush(self, step: int) -> tuple[dict[str, float], int | None]:
        """Means over the window and all ranks, and the first step whose loss was not finite on this rank."""
        names = sorted(self._sums)
        means = torch.stack([self._sums[name].double() for name in names]) / (self._steps * self._world.world)
        values = dict(zip(names, self._world.sum_(means).tolist(), strict=True))
        first_bad = int(self._first_bad.item())
        bad_step = step - self._steps + first_bad + 1 if first_bad < 2**62 else None
        seconds = time.perf_counter() - self._start
        values["images_per_second"] = self._steps * self._images / seconds
        values["data_wait_share"] = self._wait / seconds
        values["seconds_per_step"] = seconds / self._steps
        self._all_steps, self._all_time = self._all_steps + self._steps, self._all_time + seconds
        self._all_wait += self._wait
        self._sums, self._steps, self._wait, self._start = {}, 0, 0.0, time.perf_counter()
        return values, bad_step

    def pause(self) -> None:
        """Starts the clock anew: validation is no part of a step."""
        self._start = time.perf_counter()

    def keys_of(self, bad_step: int, step: int) -> list[str]:
        """The keys of the batch of `bad_step`, when `step` steps are done."""
        back = step - bad_step + 1
        return self._keys[-back] if back <= len(self._keys) else ["no longer known"]

    @property
    def images_per_second(self) -> float:
        return self._all_steps * self._images / self._all_time if self._all_time else 0.0

    @property
    def wait_share(self) -> float:
        return self._all_wait / self._all_time if self._all_time else 0.0
