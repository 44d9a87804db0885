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


def _layouts() -> str:
    width = max(map(len, LAYOUTS))
    return "\n".join(
        f"{name:{width}}  {layout.about} ({' + '.join(f'{n} {split}' for split, n in layout.splits.items() if n)})"
        for name, layout in LAYOUTS.items()
    )


_HELP = f"""Draws street scenes with exact labels into the new folder DIR.

The embedded data of the demo, the tests and the benchmarks: no download, no license, and the same bytes for the same
options on every run, whatever the number of workers.

\b
python -m ingest scenes raw
python -m ingest scenes raw-voc --layout voc --train 200 --val 50

\b
Layouts, with their default numbers of scenes:
{_layouts()}
"""


@click.command("scenes", help=_HELP, short_help="Draw street scenes with exact labels, in any dataset's raw layout.")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--layout", default="folder", show_default=True, metavar="NAME", help="On-disk layout, see above.")
@click.option("--train", type=int, help="Scenes of the train split. Default: the layout's own number.")
@click.option("--val", type=int, help="Scenes of the val split.")
@click.option("--test", type=int, help="Scenes of the test split, where the layout has one.")
@click.option("--extra", type=int, help="Scenes of Cityscapes' train_extra or VOC's augmentation.")
@click.option("--size", callback=_size, metavar="HxW", help="Height and width in pixels. Default: the layout's own.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Another seed, other scenes.")
@click.option("--archives", is_flag=True, help="Write the dataset's official zips and tars instead of folders.")
@click.option("--workers", type=click.IntRange(1), help="Processes. Default: one a core. Changes nothing but the time.")
def command(
    folder: Path,
    layout: str,
    train: int | None,
    val: int | None,
    test: int | None,
    extra: int | None,
    size: tuple[int, int] | None,
    seed: int,
    archives: bool,
    workers: int | None,
) -> None:
    given = {"train": train, "val": val, "test": test, "extra": extra}
    counts = {split: count for split, count in given.items() if count is not None}
    written = write(folder, layout, counts, size, seed, workers, archives, progress=True)
    click.echo(f"{written}: layout {layout!r}. Next: {LAYOUTS[layout].command.format(path=written)}")
