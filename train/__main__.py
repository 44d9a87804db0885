"""`python -m train --cfg RECIPE [key=value ...]`, alone or under torchrun."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ingest.errors import UserError, run

if TYPE_CHECKING:  # torch is imported when training starts, not for --help
    from train.config import Recipe


@click.command(context_settings={"max_content_width": 110})
@click.option("--cfg", "recipe", required=True, help="A recipe file, or the name of a shipped recipe.")
@click.option(
    "--resume",
    metavar="auto|FILE",
    help="auto: go on with the newest run of this name, or start one; or a checkpoint to go on from.",
)
@click.option("--print-config", is_flag=True, help="Print the whole recipe, defaults and all, and stop.")
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
def command(recipe: str, resume: str | None, print_config: bool, overrides: tuple[str, ...]) -> int:
    """Train a net by a recipe.

    \b
    python -m train --cfg scenes_enet data.path=shards/scenes
    python -m train --cfg my.yaml optimizer.lr=0.02 train.epochs=50 augment.crop=[512,512]
    torchrun --nproc-per-node 8 -m train --cfg cityscapes.yaml --resume auto

    Every key of the recipe can be set on the command line. Runs go to saved/<name>/<time>: config.yaml, log.jsonl,
    TensorBoard events, and checkpoints/last.pt and best.pt (by validation mIoU).
    """
    from train import config

    parsed = config.load(recipe, overrides)
    if print_config:
        click.echo(config.to_yaml(parsed), nl=False)
        return 0
    return _train(parsed, resume)


def _train(recipe: Recipe, resume: str | None) -> int:
    """The exit code: 0 when the last step is done, 128 + signal when it was stopped before."""
    from train import checkpoint, config
    from train.distributed import ranks
    from train.evaluate import table
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
        if world.is_main:
            folder.mkdir(parents=True, exist_ok=True)
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
        best = "-" if summary.best_miou is None else f"{100 * summary.best_miou:.2f}%"
        click.echo(f"best mIoU {best}; run folder: {summary.folder}\ncurves: tensorboard --logdir {summary.folder}")
        return code


if __name__ == "__main__":
    run(command, "python -m train")
