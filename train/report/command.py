"""`python -m train.report`: a run's report, again or while the run is going."""

from __future__ import annotations

from pathlib import Path

import click

from train.report.build import write


@click.command(context_settings={"max_content_width": 110})
@click.argument("run_folder", type=click.Path(path_type=Path))
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), help="Write here.  [default: RUN_FOLDER/report.html]"
)
def command(run_folder: Path, out: Path | None) -> None:
    """Write a run's report: curves, per-class scores, confusions, best and worst images, recipe, environment.

    RUN_FOLDER is saved/<name>/<time>. A finished run has its report already; this makes one of a run that is still
    going, or makes it again. The page is one file that loads nothing from anywhere.
    """
    click.echo(write(run_folder, out))
