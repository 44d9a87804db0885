"""`python -m train --cfg RECIPE [key=value ...]`, alone or under torchrun; and the small commands around it."""

from __future__ import annotations

import itertools
import os
import sys
import time
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ingest.errors import UserError, run

if TYPE_CHECKING:  # torch is imported when training starts, not for --help
    from train.config import Recipe


# name -> the module that has it, imported when it is called
SUBCOMMANDS = {
    "recipes": "train.commands",
    "schedule": "train.commands",
    "keys": "train.reference",
    "convert": "train.convert.command",
}


class _Train(click.Command):
    """Training itself, unless the first argument names another command: overrides leave no room for a click group."""

    def main(  # type: ignore[override]  # click overloads it by what it returns
        self, args: Sequence[str] | None = None, prog_name: str | None = None, **extra: Any
    ) -> Any:
        args = list(sys.argv[1:] if args is None else args)
        if args and args[0] in SUBCOMMANDS:
            subcommand: click.Command = getattr(import_module(SUBCOMMANDS[args[0]]), args[0])
            return subcommand.main(args[1:], prog_name=f"{prog_name or 'python -m train'} {args[0]}", **extra)
        return super().main(args, prog_name, **extra)


@click.command(cls=_Train, context_settings={"max_content_width": 110})
@click.option("--cfg", "recipe", required=True, help="A recipe file, or the name of a shipped recipe.")
@click.option(
    "--resume",
    metavar="auto|FILE",
    help="auto: go on with the newest run of this name, or start one; or a checkpoint to go on from.",
)
@click.option("--print-config", is_flag=True, help="Print the whole recipe, defaults and all, and stop.")
@click.option("--dry-run", is_flag=True, help="Build everything, take 2 steps on procedural scenes, leave nothing.")
@click.option("--twin", metavar="DATASET", help="--dry-run: whose classes to draw.  [default: by data.path]")
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
def command(
    recipe: str,
    resume: str | None,
    print_config: bool,
    dry_run: bool,
    twin: str | None,
    overrides: tuple[str, ...],
) -> int:
    """Train a net by a recipe.

    \b
    python -m train --cfg scenes_enet data.path=shards/scenes
    python -m train --cfg my.yaml optimizer.lr=0.02 train.epochs=50 augment.crop=[512,512]
    torchrun --nproc-per-node 8 -m train --cfg cityscapes.yaml --resume auto

    Every key of the recipe can be set on the command line. Runs go to saved/<name>/<time>: config.yaml, log.jsonl,
    TensorBoard events, checkpoints/last.pt and best.pt (by train.monitor), and at the end report.html.

    \b
    Around it (each has its own --help):
    python -m train recipes                                the shipped recipes
    python -m train schedule --cfg RECIPE --plot lr.png    learning rate and momentum over the steps
    python -m train keys [SECTION]                         every key of a recipe, its default and meaning
    python -m train convert config.json --out my.yaml      a recipe from a pytorch-segmentation config
    python -m train.evaluate | train.predict | train.export
    """
    # OpenMP's threads would spin for milliseconds between two kernels, on the very cores that make the next batch: ENet
    # and its data took 123 ms of CPU time an image, and take 115. To be set before torch brings OpenMP in.
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    from train import config

    if twin and not dry_run:
        raise UserError(f"--twin {twin} says what --dry-run draws: add --dry-run, or leave --twin out")
    parsed = config.load(recipe, overrides)
    if print_config:
        click.echo(config.to_yaml(parsed), nl=False)
        return 0
    if dry_run:
        if resume:
            raise UserError(f"--resume {resume} does not go with --dry-run, which starts anew and keeps nothing")
        return import_module("train.dry_run").run(parsed, twin)
    return _train(parsed, resume)


def _train(recipe: Recipe, resume: str | None) -> int:
    """The exit code: 0 when the last step is done, 128 + signal when it was stopped before."""
    from train import config
    from train.checkpoints import checkpoint
    from train.distributed import ranks
    from train.evaluate.evaluation import table
    from train.loop import Run

    with ranks(recipe.train.device) as world:
        runs = Path(recipe.output) / recipe.name
        source = None
        if resume == "auto":
            found = world.broadcast(checkpoint.latest_run(runs))
            source = found / "checkpoints" / "last.pt" if found else None
        elif resume:
            source = Path(resume)
            if source.parent.name != "checkpoints":
                raise UserError(f"--resume {resume}: expected auto or a .pt file in a run's checkpoints folder")
        state = checkpoint.load(source, "cpu") if source else None
        folder = source.parent.parent if source else world.broadcast(runs / time.strftime("%Y-%m-%d_%H-%M-%S"))
        session = Run(recipe, world, folder, state)
        if not source:
            session.folder = folder = world.broadcast(_own(folder) if world.is_main else folder)
        if world.is_main:
            warm_up = recipe.schedule.warmup_steps
            if warm_up >= session.total_steps:
                click.echo(
                    f"warning: schedule.warmup_steps = {warm_up}, but the run has {session.total_steps} steps: its "
                    "learning rate never gets to optimizer.lr",
                    err=True,
                )
            (folder / "config.yaml").write_text(config.to_yaml(recipe))
            where = f"from step {session.step} of {source}" if source else "from the start"
            loader = session.loader
            click.echo(
                f"{recipe.name}: {recipe.net.name} on {world.device.type} x {world.world}, "
                f"{len(loader.shards)} images, batch {loader.global_batch}, steps {session.total_steps}, {where}\n"
                f"run folder: {folder}"
            )
        summary = session.train()
        code = 128 + summary.stopped_by if summary.stopped_by else 0
        if not world.is_main:
            return code
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


def _own(folder: Path) -> Path:
    """Makes a run folder that is nobody else's: runs of one name may start in the same second."""
    for number in itertools.count(1):
        mine = folder if number == 1 else folder.with_name(f"{folder.name}-{number}")
        try:
            mine.mkdir(parents=True)
        except FileExistsError:
            continue
        return mine
    raise AssertionError


if __name__ == "__main__":
    run(command, "python -m train")
