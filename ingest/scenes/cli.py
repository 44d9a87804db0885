"""`python -m ingest scenes DIR`."""

from __future__ import annotations

import re
from pathlib import Path

import click

from ingest.errors import UserError
from ingest.scenes.layouts import LAYOUTS
from ingest.scenes.write import write


def _size(_context: click.Context, _option: click.Parameter, value: str | None) -> tuple[int, int] | None:
    if value is None:
        return None
    match = re.fullmatch(r"(\d+)x(\d+)", value)
    if not match:
        raise UserError(f"--size {value!r}: expected HEIGHTxWIDTH in pixels, for example 192x256")
    return int(match[1]), int(match[2])


@click.command("scenes", short_help="Draw procedural street scenes with exact labels, in any dataset's layout.")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--layout", default="folder", show_default=True, help=f"On-disk layout: {', '.join(LAYOUTS)}.")
@click.option("--train", type=int, help="Scenes of the train split. Default: the layout's own.")
@click.option("--val", type=int, help="Scenes of the val split.")
@click.option("--size", callback=_size, metavar="HxW", help="Height and width in pixels. Default: the layout's own.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Another seed, other scenes.")
@click.option("--workers", type=click.IntRange(1), help="Processes. Default: one a core. Changes nothing but the time.")
def command(
    folder: Path,
    layout: str,
    train: int | None,
    val: int | None,
    size: tuple[int, int] | None,
    seed: int,
    workers: int | None,
) -> None:
    """Draws street scenes with exact labels into the new folder DIR.

    The embedded data of the demo, the tests and the benchmarks: no download, no licence, and the same bytes for the
    same options on every run, whatever the number of workers.

    \b
    python -m ingest scenes data/scenes
    python -m ingest scenes data/voc --layout voc --train 200 --val 50
    """
    counts = {split: count for split, count in (("train", train), ("val", val)) if count is not None}
    written = write(folder, layout, counts, size, seed, workers, progress=True)
    click.echo(f"{written}: scenes in the layout {layout!r}; next: {LAYOUTS[layout].hint(str(written))}")
