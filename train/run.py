"""What a training consists of, its optimizer step, and its state as a checkpoint holds it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.nn.parallel import DistributedDataParallel

import nets
from pipeline.batch import Batch
from pipeline.loader import TrainLoader
from train import config, model
from train.checkpoints import resume
from train.checkpoints.monitor import Monitor
from train.checkpoints.saver import Saver
from train.checkpoints.state import DatasetFacts, State
from train.config import Recipe
from train.distributed import Ranks
from train.evaluate.metrics import ConfusionMatrix
from train.evaluate.validation import Validator
from train.length import Length
from train.log import provenance
from train.log.window import Window
from train.losses import SegmentationLoss
from train.optim import optimizers, schedules
from train.optim.ema import Ema


@dataclass(eq=False)
class Run:
    """One training run on one rank; every rank holds one. Made by `train.build.run`, trained by `train.loop.train`."""

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
    loss_forward: Any = None
    """What is called on scores and labels: the loss, perhaps compiled."""
    ddp: DistributedDataParallel | None = None
    """The net, where its gradients are to meet those of other ranks."""
    forward: Any = None
    """What is called on images: the net, perhaps wrapped and compiled."""
    step: int = 0
    """Optimizer steps that are done."""
    unvalidated: bool = False
    """Whether the weights of `step` are saved, but not yet validated."""

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

    def one_step(self, batches: Iterator[Batch], window: Window) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
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
            loss, parts = self.loss_forward(logits, labels)
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
