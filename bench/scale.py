"""What a dataset costs by its number of samples: `python -m bench.scale`."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import click

from bench.data import records
from bench.measuring.fresh import Numbers, medians, rounds, run
from bench.results.plots import Bar, Chart, draw
from bench.results.table import aligned
from ingest import errors
from ingest.shards import atomic, manifest
from pipeline.options import bundled
from train.log import provenance

_MOST_SHARDS = 5000
_COLUMNS = {
    "open_ms": ("open ms", "to open, milliseconds", 1),
    "open_mb": ("open MB", "memory of a rank after opening, MB beside the shared map", 1),
    "order_ms": ("order ms", "to order an epoch, milliseconds", 1),
    "resume_ms": ("resume ms", "to the first step in the middle of an epoch, milliseconds", 1),
    "eval_ms": ("eval ms", "to form validation batches of equal image size, CPU milliseconds", 1),
    "step_ms": ("step ms", "to plan a step of 8 crops, CPU milliseconds", 3),
    "mb": ("MB", "memory of a rank at work, MB beside the shared map", 1),
    "open_files": ("open files", "open files", 0),
}


@dataclass(frozen=True)
class Options:
    """The command's."""

    samples: tuple[int, ...]
    classes: int
    repeats: int
    json_path: Path | None
    plot: Path | None


def measure(options: Options) -> dict[int, Numbers]:
    """Medians by the number of samples; `shards` and `index_mb` beside what `bench.rows.scale` measures."""
    table: dict[int, Numbers] = {}
    for samples in options.samples:
        with tempfile.TemporaryDirectory(prefix="bench-scale-") as name:
            shards = max(1, min(_MOST_SHARDS, samples // 2000))
            folder = records.write(Path(name) / "records", samples, shards, options.classes)
            row = f"{samples:,}"
            found = rounds([row], partial(_row, str(folder)), options.repeats, "bench.scale")
            index = (folder / manifest.index_name(records.SPLIT)).stat().st_size / 1e6
        table[samples] = {"shards": shards, "index_mb": index} | medians(found[row])
    return table


def _row(folder: str, row: str) -> Numbers:
    return run("bench.rows.scale", {"row": row, "folder": folder})


def render(table: Mapping[int, Numbers]) -> str:
    """The table for a terminal."""
    rows = [
        [
            f"{samples:,}",
            f"{facts['shards']:.0f}",
            f"{facts['index_mb']:.1f}",
            *(f"{facts[key]:.{digits}f}" for key, (_, _, digits) in _COLUMNS.items()),
        ]
        for samples, facts in table.items()
    ]
    return aligned(["samples", "shards", "index MB", *(head for head, _, _ in _COLUMNS.values())], rows, left=0)


def charts(table: Mapping[int, Numbers]) -> Sequence[Chart]:
    """A chart a column."""
    return [
        Chart(
            title[0].upper() + title[1:],
            "",
            [Bar(f"{n:,} samples", facts[key], facts[key], facts[key], ours=True) for n, facts in table.items()],
        )
        for key, (_, title, _) in _COLUMNS.items()
    ]


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.option(
    "--samples",
    multiple=True,
    type=click.IntRange(100),
    default=(10**4, 10**5, 10**6, 10**7),
    help="Repeat for more rows.  [default: 1e4, 1e5, 1e6, 1e7]",
)
@click.option(
    "--classes", type=click.IntRange(1, 19), default=2, show_default=True, help="That each image shows: disk room."
)
@click.option("--repeats", type=click.IntRange(1), default=3, show_default=True, help="Medians are shown.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write every number, with provenance.")
@click.option("--plot", type=click.Path(path_type=Path), help="Draw the table into this PNG.")
@bundled(Options)
def main(options: Options) -> None:
    """Measure what opening, ordering and planning cost a rank, by the number of samples.

    The records are made up, but true in form: 5,000 shards at most, tars of the right size without content. Ten million
    samples take 3 GB of the temporary folder for a minute or two.
    """
    table = measure(options)
    click.echo(render(table))
    if options.json_path is not None:
        rows = {str(samples): facts for samples, facts in table.items()}
        atomic.write_json(options.json_path, {"rows": rows, "versions": provenance.versions()})
    if options.plot is not None:
        draw(charts(table), options.plot)


if __name__ == "__main__":
    errors.run(main, "python -m bench.scale")
