"""One call of `python -m train`: which run folder, from which checkpoint, the training, and what is printed."""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path

import click
from torch import get_num_threads

from ingest.errors import UserError
from ingest.shards import atomic
from ingest.shards.joined import JoinedShards
from ingest.shards.wording import count
from train import build, config, loop
from train.checkpoints import checkpoint, claim
from train.checkpoints.resume import threads_note
from train.config import Recipe
from train.distributed import joined
from train.evaluate.tables import table
from train.log.summary import Summary
from train.losses import class_weights
from train.run import Run


def train(recipe: Recipe, resume: str | None) -> int:
    """resume: None, "auto" or a checkpoint. The exit code: 0 when the last step is done, 128 + signal when stopped."""
    with joined(recipe.train.device, recipe.train.rank_timeout, "train.device=") as ranks, ExitStack() as held:
        runs = Path(recipe.output) / recipe.name
        found = _resumed(runs, resume, held) if ranks.is_main else (None, None)
        folder, source = ranks.broadcast(found)
        state = checkpoint.load(source) if source else None
        run = build.run(recipe, ranks, folder or runs, state)  # before a folder is made: most mistakes show here
        if folder is None:
            run.folder = ranks.broadcast(_new(runs, held) if ranks.is_main else None)
        if ranks.is_main:
            _begin(run, source)
            if state is not None and ranks.device.type == "cpu" and (note := threads_note(state, get_num_threads())):
                click.echo(note, err=True)
        summary = loop.train(run)
        code = 128 + summary.stopped_by if summary.stopped_by else 0
        return _end(summary, code) if ranks.is_main else code


def _resumed(runs: Path, resume: str | None, held: ExitStack) -> tuple[Path | None, Path | None]:
    """The run folder to go on in, held until the end, and the checkpoint to go on from; None for a new one."""
    if resume is None:
        return None, None
    if resume == "auto":
        # One that was killed before its first checkpoint starts anew where it was.
        folder = checkpoint.latest_run(runs) or claim.latest_unsaved(runs)
        if folder is None:
            return None, None
        held.enter_context(claim.claimed(folder))
        source = folder / "checkpoints" / "last.pt"
        return folder, source if source.exists() else None
    source = checkpoint.in_folder(Path(resume), ["last"])
    if source.parent.name != "checkpoints":
        raise UserError(f"--resume {resume}: expected auto, a run folder, or a .pt file in its checkpoints folder")
    if not source.is_file():
        raise UserError(f"--resume {resume}: there is no such checkpoint")
    held.enter_context(claim.claimed(source.parent.parent))
    return source.parent.parent, source


def _new(runs: Path, held: ExitStack) -> Path:
    folder = claim.new_folder(runs / time.strftime("%Y-%m-%d_%H-%M-%S"))
    held.enter_context(claim.claimed(folder))
    claim.sweep(runs)
    return folder


def _begin(run: Run, source: Path | None) -> None:
    """Writes the recipe into the run folder, and says what begins."""
    recipe, loader, ranks = run.recipe, run.loader, run.ranks
    warm_up = recipe.schedule.warmup_steps
    if warm_up >= run.length.total:
        click.echo(
            f"warning: schedule.warmup_steps = {warm_up}, but the run has {run.length.total} steps: its learning rate "
            "never gets to optimizer.lr",
            err=True,
        )
    atomic.write_text(run.folder / "config.yaml", config.to_yaml(recipe))
    where = f"from step {run.step} of {source}" if source else "from the start"
    click.echo(
        f"{recipe.name}: {recipe.net.name} on {ranks.device.type} x {ranks.count}, "
        f"{count(len(loader.shards), 'image')}, batch {loader.global_batch}, steps {run.length.total}, "
        f"{where}\nrun folder: {run.folder}"
    )
    if isinstance(loader.shards, JoinedShards):
        click.echo("\n".join(loader.shards.notes()))
    if run.loss.weights is not None:
        pixels = loader.shards.manifest.split(recipe.data.train).class_pixels
        click.echo(class_weights.describe(run.loss.weights.tolist(), run.facts["classes"], pixels))


def _end(summary: Summary, code: int) -> int:
    """Says how it ended. The exit code: not 0 where the last step is in no checkpoint."""
    if summary.last is not None:
        click.echo("\n" + table(summary.last, summary.classes))
    if summary.images_per_second:
        click.echo(
            f"training: {summary.images_per_second:.1f} images/s, "
            f"{100 * summary.wait_share:.1f}% of step time spent waiting for data"
        )
    click.echo(f"{summary.best_text}; run folder: {summary.folder}\ncurves: tensorboard --logdir {summary.folder}")
    if (summary.step == summary.total_steps or summary.early) and (summary.folder / "report.html").exists():
        click.echo(f"report: {summary.folder / 'report.html'}")
    if not summary.saved:
        click.echo(
            f"error: step {summary.step}, the last, is in no checkpoint (see the warnings above): free some space "
            "and go on with --resume auto",
            err=True,
        )
        return code or 1
    return code
