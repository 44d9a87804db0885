"""Small commands of `python -m train`: `recipes` lists what is shipped, `schedule` draws a learning rate."""

from __future__ import annotations

import re
from pathlib import Path

import click

from ingest.errors import UserError
from ingest.shards import folders, manifest
from ingest.shards.folders import Part
from ingest.shards.wording import count
from train import config, length, published
from train.config import Recipe
from train.optim import schedules


@click.command(short_help="The shipped recipes.")
@click.option("--published", "compare", is_flag=True, help="Each beside the published one it stands for, as Markdown.")
def recipes(compare: bool) -> None:
    """List the shipped recipes: dataset folder, net, crop, batch a GPU, length.

    \b
    python -m train --cfg NAME --dry-run          does it run here?
    python -m train --cfg NAME --print-config     every key
    """
    if compare:
        click.echo(published.markdown(), nl=False)
        return
    loaded = [config.load(name) for name in config.shipped()]
    rows = [("recipe", "data.path", "net", "crop", "batch", "length"), *map(_row, loaded)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        click.echo("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())
    click.echo(f"\nthe files, commented: {config.RECIPES}")


def _row(recipe: Recipe) -> tuple[str, ...]:
    net, train = recipe.net, recipe.train
    start = ""
    if net.pretrained:
        tag = (net.backbone or "").partition(".")[2]  # timm's name of the weights, such as gluon_in1k
        start = " (pretrained)" if tag and not re.search(r"in\d+k", tag) else " (ImageNet)"
    length = (
        f"{train.steps} step{'s' * (train.steps != 1)}"
        if train.steps
        else f"{train.epochs:g} epoch{'s' * (train.epochs != 1)}"
    )
    height, width = recipe.augment.crop
    name = f"{net.name} {net.backbone or ''}".strip() + start
    return recipe.name, folders.shown(recipe.data.path), name, f"{height}x{width}", str(recipe.data.batch_size), length


@click.command(short_help="Learning rate and momentum of a recipe, as a table and a PNG.")
@click.option("--cfg", "recipe", required=True, help="A recipe file, or the name of a shipped recipe.")
@click.option("--plot", type=click.Path(path_type=Path), help="Draw them into this PNG.")
@click.option("--steps", type=click.IntRange(1), help="Length of the run.  [default: the recipe's]")
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
def schedule(recipe: str, plot: Path | None, steps: int | None, overrides: tuple[str, ...]) -> None:
    """Show the learning rate (and momentum, where it is scheduled) over the steps of a run.

    \b
    python -m train schedule --cfg camvid_enet --plot lr.png
    python -m train schedule --cfg my.yaml --steps 30000 schedule.name=onecycle optimizer.lr=0.02

    The backbone's rate is optimizer.backbone_lr_scale times what is shown. Epochs are counted for one process.
    """
    parsed = config.load(recipe, overrides)
    total = steps or total_steps(parsed)
    lr, shape = parsed.optimizer.lr, parsed.schedule
    if plot is not None:
        if plot.suffix.lower() != ".png":
            raise UserError(f"--plot {plot}: a PNG is drawn, so give a name that ends in .png")
        if not plot.parent.is_dir():
            raise UserError(f"--plot {plot}: folder {plot.parent} does not exist: make it, or name another")
        schedules.plot(shape, lr, total, plot)
    click.echo(f"{parsed.name}: {shape.name}, base learning rate {lr:g}, {total} step{'s' * (total != 1)}")
    moving = schedules.momentum_at(shape, 0, total) is not None
    click.echo(f"{'step':>8}  {'lr':>10}" + (f"  {'momentum':>8}" if moving else ""))
    for step in _milestones(parsed, total):
        rate = lr * schedules.lr_factor(shape, step, total)
        momentum = schedules.momentum_at(shape, step, total)
        click.echo(f"{step:>8}  {rate:>10.4g}" + (f"  {momentum:>8.3f}" if momentum is not None else ""))
    if shape.warmup_steps >= total:
        click.echo(f"warning: {shape.warmup_steps} warm-up steps of {total}: the rate never gets to {lr:g}", err=True)
    if plot is not None:
        click.echo(str(plot))


def total_steps(recipe: Recipe) -> int:
    """Steps of a run of one process: the recipe's, or those of its epochs over the dataset at data.path.

    UserError where the dataset is not there to count its epochs in.
    """
    train, data = recipe.train, recipe.data
    if train.steps:
        return train.steps
    samples = 0
    for folder in data.folders:
        if not (Path(folder.path) / "dataset.json").is_file():
            raise UserError(
                f"the recipe lasts {train.epochs:g} epochs, and data.path = {folder.path!r} is no shard folder to "
                "count them in: give --steps N"
            )
        split = manifest.load(folder.path).split(data.train)
        samples += Part(Path(folder.path), split.samples, folder.weight).visits
    if samples < data.batch_size:
        raise UserError(
            f"data.batch_size = {data.batch_size}, but split {data.train!r} has {count(samples, 'sample')}: lower it"
        )
    return length.of(recipe, samples, data.batch_size).total


def _milestones(recipe: Recipe, total: int) -> list[int]:
    """The ends, every tenth, and where the curve turns."""
    turn = round(recipe.schedule.onecycle_rise * (total - 1)) if recipe.schedule.name == "onecycle" else None
    marks = {round(tenth * (total - 1) / 10) for tenth in range(11)}
    return sorted(mark for mark in marks | {turn or 0, recipe.schedule.warmup_steps} if 0 <= mark < total)
