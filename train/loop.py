"""The training loop: step after step, with logging, validation and checkpoints as the recipe says."""

from __future__ import annotations

import contextlib
import math
import signal
from collections.abc import Iterator

import torch

from ingest.errors import UserError
from pipeline.batch import Batch
from pipeline.staging import Meter
from train import backends, config, finish, length
from train.evaluate.evaluation import Evaluation
from train.log import provenance
from train.log.neighbors import Neighbors
from train.log.summary import Summary
from train.log.tracking import Tracker
from train.log.window import Window
from train.optim import optimizers
from train.optim.ema import averaged_state
from train.run import Run
from train.stopping import Stop

_CALMER = "lower optimizer.lr, set optimizer.clip_norm=1 or train.amp=off"


def train(run: Run) -> Summary:
    """Trains to the last step, or until a signal asks to stop. Every rank calls it.

    UserError when the loss, a gradient or a weight is not finite, or a label is outside the classes.
    """
    device = run.ranks.device
    folder = run.folder if run.ranks.is_main else None
    tracker = Tracker(folder, run.step, run.length.total, run.unvalidated)
    loop = Loop(run, tracker)
    try:
        # closing: the loader's thread ends with the loop, also when the loop ends in an error
        with (
            loop.stop.watching(),
            backends.autotuned(run.recipe.train.cudnn_benchmark, device),
            backends.prioritized(run.recipe.train.priority_stream, device),
            backends.deterministic(run.recipe.train.deterministic, device),
            contextlib.closing(iter(run.loader)) as batches,
        ):
            return loop.run_to_end(batches)
    finally:
        tracker.close()


class Loop:
    """One call of `train`: the run, and what is needed while it trains."""

    def __init__(self, run: Run, tracker: Tracker) -> None:
        self.run, self.tracker, self.ranks = run, tracker, run.ranks
        self.window = Window(run.ranks, run.loader.batch_size, run.accumulate, run.step)
        self.stop = Stop(run.ranks)
        self._staging = Meter(run.loader.shards)
        self._neighbors = Neighbors(run.ranks.local_count)
        self._last: Evaluation | None = None
        """The last validation of this call."""
        self._saved = True
        """Whether the last checkpoint could be written."""

    def run_to_end(self, batches: Iterator[Batch]) -> Summary:
        """To the last step, to the end of the patience, or until a signal."""
        run, window = self.run, self.window
        self._log_start()
        run.net.train()
        if run.unvalidated and run.validator is not None:
            self._validate_and_save()
        window.clock.restart()  # the logged speed is of training alone
        while not run.done:
            losses, norm = run.one_step(batches, window)
            run.step += 1
            window.add(losses, norm, may_overflow=run.scaler.is_enabled())
            self.tracker.advance()
            due = length.due(run.recipe.train, run.length, run.step, run.validator is not None)
            # Ranks must stop at the same step: they agree at log steps; alone, at any.
            stops = (due.logs or self.ranks.count == 1) and self.stop.wanted()
            if due.logs or stops:
                self.log()
            if due.saves or stops:
                # Before a validation, too: a run killed in a long one loses no step.
                self._save_good(unvalidated=due.validates)
            if due.validates:
                self._validate_and_save()
                stops = self.stop.wanted()
            if due.saves:
                window.clock.restart()
            if stops and not run.done:
                self._log_stop(self.stop.agree())
                break
        if run.done:
            self._finish()
        return self._summary()

    def log(self) -> None:
        """Synchronizes with the device, checks the losses since the last log, and logs them. UserError on NaN."""
        run, window, tracker = self.run, self.window, self.tracker
        values, bad_step = window.flush()
        if bad_step is not None:
            raise self._bad_step(bad_step)
        if run.counts is not None:
            miou = run.counts.all_reduce().result().miou
            values |= {} if miou is None else {"miou": miou}
            run.counts.reset()
        for key, reason in window.newly_skipped.items():
            tracker.say(f"warning: sample {key!r} counts for nothing: {reason}; see `python -m ingest verify`")
            tracker.event(run.step, what="skipped", key=key, reason=reason)
        if self.ranks.is_main and (note := self._neighbors.line()) is not None:
            tracker.say(note)
            tracker.event(run.step, what="busy machine", note=note)
        staged = self._staged() if self._staging else {}
        values |= staged
        if (momentum := optimizers.momentum_of(run.optimizer)) is not None:
            values["momentum"] = momentum
        tracker.scalars(run.step, "train", values)
        groups = run.optimizer.param_groups
        tracker.scalars(run.step, "lr", {group["name"].replace("/", "_"): group["lr"] for group in groups})
        tracker.show(
            run.step,
            loss=f"{values['loss']:.3f}",
            **{"img/s": f"{values['images_per_second']:.1f}", "wait": f"{100 * values['data_wait_share']:.1f}%"},
            **({"fetching": f"{staged['staged_mb_per_second']:.1f} MB/s"} if staged else {}),
        )

    def _staged(self) -> dict[str, float]:
        """Of shards that come from URLs: MB/s of all ranks, and the share of the time in which a loader's thread waited
        for one, the mean of the ranks. Every rank calls it."""
        fetched, stalled, passed = self._staging.read()
        numbers = torch.tensor([fetched / 1e6 / passed, stalled / passed], dtype=torch.float64)
        rate, stalls = self.ranks.sum_(numbers.to(self.ranks.device)).tolist()
        return {"staged_mb_per_second": rate, "staging_stall_share": stalls / self.ranks.count}

    def _log_start(self) -> None:
        run, tracker = self.run, self.tracker
        tracker.text("recipe", config.to_yaml(run.recipe))
        size = {"ranks": self.ranks.count, "batch": run.loader.global_batch}
        tracker.event(run.step, what="start", **size, **provenance.versions())
        if run.step == 0 and run.begun_from:
            tracker.say(run.begun_from)
            tracker.event(0, what="weights", source=run.begun_from)

    def _log_stop(self, number: int) -> None:
        step = self.run.step
        self.tracker.event(step, what="stopped", signal=number)
        self.tracker.say(f"stopped at step {step} by {signal.Signals(number).name}; go on with --resume auto")

    def _bad_step(self, bad_step: int) -> UserError:
        """Why the loss or the gradient of `bad_step` is not finite, as far as is known. Every rank calls it."""
        run = self.run
        who, good = self.window.suspects(bad_step), run.saver.last_good()
        if bad_pixels := int(self.ranks.sum_(run.loss.bad_pixels).item()):
            return UserError(
                f"labels hold values outside the {len(run.facts['classes'])} classes, {bad_pixels} pixels by step "
                f"{run.step}, the first at step {bad_step} ({who}): check the shards with `python -m ingest "
                f"verify`; {good}"
            )
        return UserError(f"the loss or its gradient is not finite at step {bad_step} ({who}): {good}; {_CALMER}")

    def _save_good(self, unvalidated: bool) -> None:
        """Saves weights that a step has changed. UserError when one is not finite: it would replace a good one.

        Running statistics are each rank's own; all go on, and validate, with those that the main rank saves. So every
        rank finds the same.
        """
        run = self.run
        averages = run.ema.statistics() if run.ema is not None else []
        self.ranks.broadcast_tensors([*run.net.buffers(), *averages])
        values = [value.detach() for value in averaged_state(run.net).values()]
        if not bool(torch.nn.utils.get_total_norm(values, math.inf).isfinite()):
            raise UserError(f"the weights are not finite after step {run.step}: {run.saver.last_good()}; {_CALMER}")
        self._save(unvalidated)

    def _validate_and_save(self) -> None:
        """Validates the weights of this step, and saves what comes of it."""
        self.stop.doing = f"this validation, a while; step {self.run.step} is saved"
        self._last = self._validate()
        self._save()
        self.stop.doing = "this step"

    def _validate(self) -> Evaluation:
        run = self.run
        assert run.validator is not None
        self.ranks.at(f"the validation of step {run.step}")
        ends = run.step == run.length.total or run.monitor.may_end
        found = run.validator.score(run.net, run.ema, run.loss, last=ends)
        run.net.train()
        run.validator.tell(found, run.step, self.tracker)
        if run.monitor.update(found, run.step):
            self.tracker.event(run.step, what="best", **{run.monitor.name: run.monitor.value(found)})
        return found

    def _save(self, unvalidated: bool = False) -> None:
        """unvalidated: these weights are still to be validated; only then they get their other names."""
        run = self.run
        keeps = length.every(run.recipe.train.keep_every_steps, run.step)
        best = run.monitor.names(run.step)
        names = ["last"] if unvalidated else [*best, *([f"step-{run.step}"] if keeps else []), "last"]
        run.unvalidated = unvalidated
        self.ranks.at(f"the checkpoint of step {run.step}")
        missing = self.ranks.broadcast(run.saver.write(names, run.state_dict(), run.step, self.tracker))
        self._saved = "last" not in missing
        if set(missing) & set(best):
            run.monitor.lost()
        elif not unvalidated:
            run.saver.keep_best(run.monitor.kept_steps)

    def _finish(self) -> None:
        """What a finished run leaves behind. One that was finished before is scored again only if need be."""
        run = self.run
        if run.step < run.length.total:
            self.tracker.say(f"stopped early at step {run.step}: {run.monitor.reason()}")
        known = self._last is not None or self.ranks.broadcast(finish.validated(run.folder, run.step))
        if not known and run.validator is not None:
            self._last = run.validator.score(run.net, run.ema, run.loss, last=True)
        self.ranks.at("the report")
        facts = {"step": run.step, "split": run.recipe.data.val, "best": run.monitor.state_dict()["best"]}
        extremes = run.validator.extremes if run.validator is not None else None
        results = finish.Results(self._last, extremes, facts, run.facts["classes"])
        finish.finish(run.folder, results, self.ranks, self.tracker)

    def _summary(self) -> Summary:
        run = self.run
        best = run.monitor.best
        return Summary(
            folder=run.folder,
            step=run.step,
            total_steps=run.length.total,
            best_miou=best.miou if best else None,
            best_text=run.monitor.describe(),
            last=self._last,
            classes=run.facts["classes"],
            images_per_second=self.window.clock.images_per_second,
            wait_share=self.window.clock.wait_share,
            stopped_by=None if run.done else self.stop.signal,
            early=run.step < run.length.total and run.monitor.exhausted,
            saved=self._saved,
        )
