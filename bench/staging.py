"""What a training from an object store waits for: `python -m bench.staging`."""

from __future__ import annotations

import math
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import click

from bench.measuring import object_store
from bench.measuring.fresh import Numbers, medians, rounds, run
from bench.results.table import aligned
from ingest import errors
from ingest.shards import atomic, manifest
from pipeline.options import bundled
from train.log import provenance

_URL = "s3://bench/scenes"
_COLUMNS = {
    "first_s": ("first batch s", 1),
    "waited_s": ("later waits s", 1),
    "epoch_s": ("epoch s", 1),
    "link_mb": ("MB over the link", 1),
    "cache_mb": ("cache MB", 1),
}


@dataclass(frozen=True)
class Options:
    """The command's."""

    images: int
    mb_per_second: float
    step_ms: float
    repeats: int
    json_path: Path | None


@dataclass(frozen=True)
class Row:
    """How shards come."""

    window: int
    """data.shuffle_window."""
    whole: bool = False
    """All of them before the first batch."""
    cache: float = 1.0
    """The cache, as a part of the set."""


ROWS = {
    "whole set first": Row(4, whole=True),
    "in the plan's order": Row(4),
    "the same, cache of half": Row(4, cache=0.5),
    "whole set first, all shuffled": Row(0, whole=True),
    "in the plan's order, all shuffled": Row(0),
}


def measure(options: Options) -> dict[str, Numbers]:
    """Medians by row. UserError when rows of one window differ in a pixel."""
    with (
        tempfile.TemporaryDirectory(prefix="bench-staging-") as name,
        object_store.serving(options.mb_per_second * 1e6) as (link, environment),
    ):
        folder = _shards(Path(name), options.images, environment)
        total = sum(shard.bytes for shard in manifest.load(folder).split("train").shards)

        def one(row: str) -> Numbers:
            how, before = ROWS[row], link.bytes
            order = {
                "row": row,
                "url": _URL,
                "whole": how.whole,
                "window": how.window,
                "cache_bytes": math.ceil(how.cache * total) + (50_000_000 if how.cache == 1 else _small(folder)),
                "step_seconds": options.step_ms / 1000,
            }
            facts = run("bench.rows.staging", order, environment)
            return facts | {"link_mb": (link.bytes - before) / 1e6}

        found = rounds(list(ROWS), partial(one), options.repeats, "bench.staging")
    table = {row: medians(repeats) for row, repeats in found.items()}
    for window in {row.window for row in ROWS.values()}:
        pixels = {
            repeat["pixels"] for row, repeats in found.items() if ROWS[row].window == window for repeat in repeats
        }
        if len(pixels) > 1:
            raise errors.UserError(f"shuffle_window {window}: the rows' pixels differ, which must not be")
    return table


def render(table: Mapping[str, Numbers]) -> str:
    """The table for a terminal."""
    rows = [
        [row, *(f"{facts[key]:.{digits}f}" for key, (_, digits) in _COLUMNS.items())] for row, facts in table.items()
    ]
    return aligned(["shards come", *(head for head, _ in _COLUMNS.values())], rows)


def _shards(scratch: Path, images: int, environment: dict[str, str]) -> Path:
    """Scenes as a shard folder of about 16 shards, also in the bucket. The folder."""
    raw, shards = scratch / "raw", scratch / "shards"
    _call(environment, "scenes", raw, "--train", images, "--val", 1, "--size", "250x320")
    spec = ("folder", raw, "--spec", raw / "dataset.yaml", "--split", "train", "--shard-size", "160kB")
    _call(environment, *spec, "--out", shards)
    _run(environment, "-c", "import fsspec; fsspec.filesystem('s3').mkdir('bench')")
    _call(environment, *spec, "--out", _URL)
    return shards


def _small(folder: Path) -> int:
    """Bytes of what stays in the cache beside the tars."""
    return sum(path.stat().st_size for path in folder.iterdir() if path.suffix == ".npz")


def _call(environment: dict[str, str], *words: object) -> None:
    _run(environment, "-m", "ingest", *map(str, words))


def _run(environment: dict[str, str], *words: str) -> None:
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, env=environment)
    if done.returncode:
        raise errors.UserError(f"python {' '.join(words)} failed: {done.stderr.strip()[-500:]}")


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.option("--images", type=click.IntRange(16), default=192, show_default=True, help="Scenes of 320x250.")
@click.option("--mb-per-second", type=click.FloatRange(0.01), default=1.0, show_default=True, help="Of the link.")
@click.option("--step-ms", type=click.FloatRange(0), default=100.0, show_default=True, help="That a step takes.")
@click.option("--repeats", type=click.IntRange(1), default=3, show_default=True, help="Medians are shown.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write every number, with provenance.")
@bundled(Options)
def main(options: Options) -> None:
    """Measure an epoch from an S3 bucket: time to the first batch, waits, bytes.

    The bucket is moto's server on this machine, behind a link of --mb-per-second. Each row begins with an empty cache;
    all rows of one data.shuffle_window must give the same pixels.
    """
    table = measure(options)
    click.echo(render(table))
    if options.json_path is not None:
        atomic.write_json(options.json_path, {"rows": table, "versions": provenance.versions()})


if __name__ == "__main__":
    errors.run(main, "python -m bench.staging")
