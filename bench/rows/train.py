"""Measures training steps, one row in a process of its own: `python -m bench.rows.train < order.json`.

The rows `cached` and `ours` are the trainer's own step (`train.run.Run`) with its net, loss, optimizer and clock; only
where the batches come from differs. `bench.rows.naive` is the third.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from bench.measuring import process
from bench.measuring.clock import Clock
from bench.measuring.fresh import Numbers
from pipeline.batch import Batch
from train import backends, build, config
from train.config import Recipe
from train.distributed import Ranks, joined
from train.log.window import Window
from train.run import Run

WARM_UP = 5  # steps: compiled, autotuned, the loader ahead
# One step; told the clock, which it marks.
Step = Callable[[], None]


def measure(row: str, recipe: Recipe, steps: int, ranks: Ranks) -> Numbers:
    """Takes `steps` steps after a warm-up.

    steps_per_second, images_per_second; wait_share of the time; seconds a step of data, forward, backward, optimizer
    and rest (`bench.measuring.clock`); cpu_seconds_per_image and peak_mb of all its processes; gpu_mb on a GPU.
    """
    run = build.run(_long_enough(recipe, WARM_UP + steps), ranks, Path("nowhere"))
    clock = Clock(ranks.device)
    with contextlib.ExitStack() as stack:
        step: Step
        stack.enter_context(backends.prioritized(recipe.train.priority_stream, ranks.device))
        # pytorch-segmentation has cuDNN's autotuner on
        stack.enter_context(backends.autotuned(row == "naive" or recipe.train.cudnn_benchmark, ranks.device))
        if row == "naive":
            from bench.rows import naive

            step = naive.steps(run, clock)
        else:
            batches = stack.enter_context(contextlib.closing(iter(run.loader)))
            step = _own_steps(run, _repeat(next(batches), batches) if row == "cached" else batches, clock)
        for _ in range(WARM_UP):
            step()
        clock.reset()
        if ranks.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        cpu, start = process.cpu_seconds(), time.perf_counter()
        for _ in range(steps):
            step()
        split = clock.read()  # waits for the device
        seconds, cpu = time.perf_counter() - start, process.cpu_seconds() - cpu
    images = steps * run.loader.batch_size * (1 if row == "naive" else run.accumulate)
    spent = {f"{part}_seconds": taken / steps for part, taken in split.items()}
    facts = {
        "steps_per_second": steps / seconds,
        "images_per_second": images / seconds,
        "wait_share": split["data"] / seconds,
        **spent,
        "rest_seconds": max(0.0, seconds / steps - sum(spent.values())),
        "cpu_seconds_per_image": cpu / images,
        "peak_mb": process.peak_mb(),
    }
    if ranks.device.type == "cuda":
        facts["gpu_mb"] = torch.cuda.max_memory_reserved() / 2**20
    return facts


def _own_steps(run: Run, batches: Iterator[Batch], clock: Clock) -> Step:
    """The trainer's step, its log steps included, with marks where one part ends and the next begins."""
    window = Window(run.ranks, run.loader.batch_size, run.accumulate)
    run.net.train()
    run.forward = clock.entering("forward", run.forward)
    run.loss_forward = clock.leaving(run.loss_forward, "backward")
    run.scaler.unscale_ = clock.entering("optimizer", run.scaler.unscale_)  # type: ignore[method-assign]
    run.optimizer.zero_grad = clock.leaving(run.optimizer.zero_grad, "rest")  # type: ignore[method-assign]
    waited = clock.waiting(batches)

    def step() -> None:
        losses, norm = run.one_step(waited, window)
        run.step += 1
        window.add(losses, norm, may_overflow=run.scaler.is_enabled())
        if run.step % run.recipe.train.log_every == 0:
            window.flush()

    return step


def _repeat(batch: Batch, batches: Iterator[Batch]) -> Iterator[Batch]:
    """One batch for ever, and the loader at rest."""
    batches.close()  # type: ignore[attr-defined]
    return itertools.repeat(batch)


def _long_enough(recipe: Recipe, steps: int) -> Recipe:
    """No validation, and a schedule that does not end within the measurement."""
    train = replace(recipe.train, steps=max(recipe.train.steps, steps + 1), epochs=0)
    return replace(recipe, data=replace(recipe.data, val=""), train=train)


def _main() -> None:
    order: dict[str, Any] = json.load(sys.stdin)
    recipe = config.parse(order["recipe"])
    with joined(recipe.train.device, option="train.device=") as ranks:
        print(json.dumps(measure(order["row"], recipe, order["steps"], ranks)), flush=True)


if __name__ == "__main__":
    _main()
