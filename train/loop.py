"""The training loop: stream -> loss -> step, with validation, checkpoints and an exact resume."""

from __future__ import annotations

import contextlib
import math
import signal
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch.nn.parallel import DistributedDataParallel

import nets
from ingest.errors import UserError
from pipeline.batch import Batch
from pipeline.loader import TrainLoader
from train import backends, config, finish, length, model
from train.checkpoints import resume
from train.checkpoints.monitor import Monitor
from train.checkpoints.saver import Saver
from train.checkpoints.state import DatasetFacts, State
from train.config import Recipe
from train.distributed import Ranks
from train.evaluate.evaluation import Evaluation
from train.evaluate.metrics import ConfusionMatrix
from train.evaluate.validation import Validator
from train.length import Length
from train.log import provenance
from train.log.neighbors import Neighbors
from train.log.summary import Summary
from train.log.tracking import Tracker
from train.log.window import Window
from train.losses import SegmentationLoss
from train.optim import optimizers, schedules
from train.optim.ema import Ema, averaged_state
from train.stopping import Stop

_CALMER = "lower optimizer.lr, set optimizer.clip_norm=1 or train.amp=off"


@dataclass(eq=False)
class Run:
    """One training run on one rank; every rank holds one. Made by `train.build.run`."""

    recipe: Recipe
    ranks: Ranks
    folder: Path
    facts: DatasetFacts
    loader: TrainLoader
    validator: Validator | None
    length: Length
    net: nets.Segmenter
    ema: Ema | None
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    loss: SegmentationLoss
    monitor: Monitor
    begun_from: str
    """What a new run's weights start from, in words; empty: from random ones."""
    counts: ConfusionMatrix | None
    """Of the training crops, where train.train_miou asks for it."""
    ddp: DistributedDataParallel | None = None
    """The net, where its gradients are to meet those of other ranks."""
    forward: Any = None
    """What is called on images: the net, perhaps wrapped and compiled."""
    step: int = 0
    """Optimizer steps that are done."""
    unvalidated: bool = False
    """Whether the weights of `step` are saved, but not yet validated."""
    stop: Stop = field(init=False)
    _neighbors: Neighbors = field(init=False)
    _saved: bool = field(default=True, init=False)

    def __post_init__(self) -> None:
        self.stop = Stop(self.ranks)
        self._neighbors = Neighbors(self.ranks.local_count)

    @property
    def saver(self) -> Saver:
        """Of this run's folder."""
        return Saver(self.folder, self.ranks.is_main)

    @property
    def accumulate(self) -> int:
        """Batches a step."""
        return self.recipe.optimizer.accumulate

    @property
    def done(self) -> bool:
        """No step is left, or the patience is exhausted."""
        return self.step >= self.length.total or self.monitor.exhausted

    def train(self) -> Summary:
        """Trains to the last step (or a signal), validating, saving and telling as the recipe says."""
        folder = self.folder if self.ranks.is_main else None
        tracker = Tracker(folder, self.step, self.length.total, self.unvalidated)
        try:
            # closing: the loader's thread ends with the loop, also when the loop ends in an error
            with (
                self.stop.watching(),
                backends.autotuned(self.recipe.train.cudnn_benchmark, self.ranks.device),
                backends.deterministic(self.recipe.train.deterministic, self.ranks.device),
                contextlib.closing(iter(self.loader)) as batches,
            ):
                return self._train(tracker, batches)
        finally:
            tracker.close()

    def _train(self, tracker: Tracker, batches: Iterator[Batch]) -> Summary:
        self._tell_start(tracker)
        window = Window(self.ranks, self.loader.batch_size, self.accumulate, self.step)
        last: Evaluation | None = None
        self.net.train()
        if self.unvalidated and self.validator is not None:
            last = self._validate_and_save(tracker)
        while not self.done:
            losses, norm = self._one_step(batches, window)
            self.step += 1
            window.add(losses, norm, may_overflow=self.scaler.is_enabled())
            tracker.advance()
            due = length.due(self.recipe.train, self.length, self.step, self.validator is not None)
            # Ranks must stop at the same step: they agree at log steps; alone, at any.
            stops = (due.logs or self.ranks.count == 1) and self.stop.wanted()
            if due.logs or stops:
                self._log(tracker, window)
            if due.saves or stops:
                # Before a validation, too: a run killed in a long one loses no step.
                self._save_good(tracker, unvalidated=due.validates)
            if due.validates:
                last = self._validate_and_save(tracker)
                stops = self.stop.wanted()
            if due.saves:
                window.clock.restart()
            if stops and not self.done:
                number = self.stop.agree()
                tracker.event(self.step, what="stopped", signal=number)
                tracker.say(f"stopped at step {self.step} by {signal.Signals(number).name}; go on with --resume auto")
                break
        if self.done:
            last = self._finish(last, tracker)
        return self._summary(last, window)

    def _tell_start(self, tracker: Tracker) -> None:
        tracker.text("recipe", config.to_yaml(self.recipe))
        size = {"ranks": self.ranks.count, "batch": self.loader.global_batch}
        tracker.event(self.step, what="start", **size, **provenance.versions())
        if self.step == 0 and self.begun_from:
            tracker.say(self.begun_from)
            tracker.event(0, what="weights", source=self.begun_from)

    def _summary(self, last: Evaluation | None, window: Window) -> Summary:
        best = self.monitor.best
        return Summary(
            folder=self.folder,
            step=self.step,
            total_steps=self.length.total,
            best_miou=best.miou if best else None,
            best_text=self.monitor.describe(),
            last=last,
            classes=self.facts["classes"],
            images_per_second=window.clock.images_per_second,
            wait_share=window.clock.wait_share,
            stopped_by=None if self.done else self.stop.signal,
            early=self.step < self.length.total and self.monitor.exhausted,
            saved=self._saved,
        )

    def _one_step(self, batches: Iterator[Batch], window: Window) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        """One optimizer step. Returns the loss's parts and the gradient's norm, on the device."""
        recipe, ranks = self.recipe, self.ranks
        # Dropout is a function of (seed, step, rank), so that an interruption does not show.
        torch.manual_seed(hash((recipe.seed, self.step, ranks.rank)) & 0x7FFF_FFFF_FFFF_FFFF)
        self._set_lr(self.step)
        totals: dict[str, torch.Tensor] = {}
        for part in range(self.accumulate):
            ranks.at(f"step {self.step + 1}, the next batch")
            batch = window.next(batches)
            images, labels = batch.images, batch.labels
            assert labels is not None
            ranks.at(f"step {self.step + 1}, the net")
            # Gradients meet over the ranks once a step, with the last part.
            if self.ddp is not None:
                self.ddp.require_backward_grad_sync = part == self.accumulate - 1
            with model.autocast(recipe.train.amp, ranks.device):
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
        factor = schedules.lr_factor(shape, step, self.length.total)
        optimizers.set_lr(self.optimizer, factor, schedules.momentum_at(shape, step, self.length.total))

    def _log(self, tracker: Tracker, window: Window) -> None:
        """Meets the device, checks the losses since the last log, and writes them down. UserError on NaN."""
        values, bad_step = window.flush()
        if bad_step is not None:
            who = window.suspects(bad_step)
            if bad_pixels := int(self.ranks.sum_(self.loss.bad_pixels).item()):
                raise UserError(
                    f"labels hold values outside the {len(self.facts['classes'])} classes, {bad_pixels} pixels by step "
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
        if self.ranks.is_main and (note := self._neighbors.line()) is not None:
            tracker.say(note)
            tracker.event(self.step, what="busy machine", note=note)
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

    def _save_good(self, tracker: Tracker, unvalidated: bool) -> None:
        """Saves weights that a step has changed. UserError when one is not finite: it would replace a good one.

        Running statistics are each rank's own; all go on, and validate, with those that the main rank saves. So every
        rank finds the same.
        """
        averages = self.ema.statistics() if self.ema is not None else []
        self.ranks.broadcast_tensors([*self.net.buffers(), *averages])
        values = [value.detach() for value in averaged_state(self.net).values()]
        if not bool(torch.nn.utils.get_total_norm(values, math.inf).isfinite()):
            raise UserError(f"the weights are not finite after step {self.step}: {self.saver.last_good()}; {_CALMER}")
        self._save(tracker, unvalidated)

    def _validate_and_save(self, tracker: Tracker) -> Evaluation:
        """Validates the weights of this step, and saves what comes of it."""
        self.stop.doing = f"this validation, a while; step {self.step} is saved"
        found = self._validate(tracker)
        self._save(tracker)
        self.stop.doing = "this step"
        return found

    def _validate(self, tracker: Tracker) -> Evaluation:
        assert self.validator is not None
        self.ranks.at(f"the validation of step {self.step}")
        ends = self.step == self.length.total or self.monitor.may_end
        found = self.validator.score(self.net, self.ema, self.loss, last=ends)
        self.net.train()
        self.validator.tell(found, self.step, tracker)
        if self.monitor.update(found, self.step):
            tracker.event(self.step, what="best", **{self.monitor.name: self.monitor.value(found)})
        return found

    def _save(self, tracker: Tracker, unvalidated: bool = False) -> None:
        """unvalidated: these weights are still to be validated; only then they get their other names."""
        keeps = length.every(self.recipe.train.keep_every_steps, self.step)
        best = self.monitor.names(self.step)
        names = ["last"] if unvalidated else [*best, *([f"step-{self.step}"] if keeps else []), "last"]
        self.unvalidated = unvalidated
        self.ranks.at(f"the checkpoint of step {self.step}")
        missing = self.ranks.broadcast(self.saver.write(names, self.state_dict(), self.step, tracker))
        self._saved = "last" not in missing
        if set(missing) & set(best):
            self.monitor.lost()
        elif not unvalidated:
            self.saver.keep_best(self.monitor.kept_steps)

    def state_dict(self) -> State:
        """For a checkpoint: what the run needs to go on, and others to use its net."""
        return {
            "model": self.net.state_dict(),
            "ema": self.ema.state_dict() if self.ema is not None else None,
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "loader": self.loader.state_dict(),
            "step": self.step,
            "unjudged": self.unvalidated,
            "monitor": self.monitor.state_dict(),
            "batch": resume.batch_facts(self.loader.batch_size, self.ranks.count, self.accumulate),
            "config": config.to_dict(self.recipe),
            "dataset": self.facts,
            "versions": provenance.versions(),
            "threads": torch.get_num_threads(),
        }

    def load_state_dict(self, state: State) -> None:
        """Goes on from a checkpoint, whose weights the net already holds. UserError when it does not fit."""
        resume.load_optimizer(self.optimizer, self.recipe, state)
        if state["scaler"]:  # empty where it was not fp16: then the scale starts anew
            self.scaler.load_state_dict(state["scaler"])
        self.loader.load_state_dict(state["loader"])
        if self.ema is not None and (averages := state.get("ema")):  # else they start from the weights of here
            self.ema.load_state_dict(averages)
        self.monitor.load_state_dict(state["monitor"])
        self.step, self.unvalidated = state["step"], state.get("unjudged", False)
        if self.step:  # a checkpoint written before the next step is to hold what it held without the interruption
            self._set_lr(self.step - 1)

    def _finish(self, last: Evaluation | None, tracker: Tracker) -> Evaluation | None:
        """What a finished run leaves behind. One that was finished before is scored again only if need be."""
        if self.step < self.length.total:
            tracker.say(f"stopped early at step {self.step}: {self.monitor.reason()}")
        known = last is not None or self.ranks.broadcast(finish.validated(self.folder, self.step))
        if not known and self.validator is not None:
            last = self.validator.score(self.net, self.ema, self.loss, last=True)
        self.ranks.at("the report")
        facts = {"step": self.step, "split": self.recipe.data.val, "best": self.monitor.state_dict()["best"]}
        extremes = self.validator.extremes if self.validator is not None else None
        results = finish.Results(last, extremes, facts, self.facts["classes"])
        finish.finish(self.folder, results, self.ranks, tracker)
        return last
