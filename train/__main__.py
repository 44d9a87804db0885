"""`python -m train --cfg RECIPE [key=value ...]`, alone or under torchrun; and the small commands around it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import click

from ingest.errors import UserError
from train.entry import run

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
@click.option(
    "--stand-in",
    "--twin",
    "stand_in",
    metavar="DATASET",
    help="--dry-run: whose classes to draw.  [default: by data.path]",
)
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
def command(
    recipe: str,
    resume: str | None,
    print_config: bool,
    dry_run: bool,
    stand_in: str | None,
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
    from train import config

    if stand_in and not dry_run:
        raise UserError(f"--stand-in {stand_in} says what --dry-run draws: add --dry-run, or leave --stand-in out")
    parsed = config.load(recipe, overrides)
    if print_config:
        click.echo(config.to_yaml(parsed), nl=False)
        return 0
    if dry_run:
        if resume:
            raise UserError(f"--resume {resume} does not go with --dry-run, which starts anew and keeps nothing")
        return import_module("train.dry_run").run(parsed, stand_in)
    return import_module("train.session").train(parsed, resume)


if __name__ == "__main__":
    run(command, "python -m train")
