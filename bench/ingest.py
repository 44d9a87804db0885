"""How fast ingest is, and what the machine allows: `python -m bench.ingest [SRC --spec SPEC]`.

The floor does what no ingest can leave out, and nothing else: read each source file, decode it once to know that it is
whole, write its bytes. It runs in as many processes, each writing a file of its own.
"""

from __future__ import annotations

import io
import multiprocessing
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import click
from PIL import Image
from tqdm.auto import tqdm

from bench.results.table import aligned
from ingest import writer
from ingest.datasets import ade20k, cityscapes, cocostuff, folder, voc
from ingest.errors import UserError, nearest, run
from ingest.scenes import write as draw
from ingest.shards import atomic
from ingest.sources.archives import Source
from ingest.sources.raw import Pair, RawDataset
from pipeline.options import bundled

FINDERS: dict[str, Callable[[Path], RawDataset]] = {
    "voc": voc.find,
    "cityscapes": cityscapes.find,
    "ade20k": ade20k.find,
    "cocostuff": cocostuff.find,
}


@dataclass(frozen=True)
class Row:
    """Medians over the repeats."""

    workers: int
    images_per_second: float
    megabytes_per_second: float  # of source files
    floor_images_per_second: float
    share: float  # of the floor


def measure(raw: RawDataset, workers: Sequence[int], repeats: int, scratch: Path) -> list[Row]:
    """Ingest and floor by turns, so that a noisy machine hurts both alike; the first round warms the page cache."""
    pairs = [pair for mine in raw.splits.values() for pair in mine]
    size = sum(source.size for pair in pairs for source in (pair.image, pair.label) if source)
    _floor(pairs, max(workers), scratch)
    rows = []
    for count in tqdm(workers, desc="bench.ingest", unit="row", leave=False, disable=None):
        ours, floor = [], []
        for _ in range(repeats):
            ours.append(_ours(raw, count, scratch / "shards"))
            floor.append(_floor(pairs, count, scratch))
        took, least = statistics.median(ours), statistics.median(floor)
        rows.append(Row(count, len(pairs) / took, size / took / 1e6, len(pairs) / least, least / took))
    return rows


def _ours(raw: RawDataset, workers: int, out: Path) -> float:
    start = time.perf_counter()
    writer.write(
        raw, out, writer.Settings(shard_size=256 * 10**6, seed=0, workers=workers, command="bench", options={})
    )
    took = time.perf_counter() - start
    shutil.rmtree(out)
    return took


def _floor(pairs: Sequence[Pair], workers: int, scratch: Path) -> float:
    parts = [(pairs[at::workers], scratch / f"floor-{at}") for at in range(workers)]
    start = time.perf_counter()
    if workers == 1:
        _touch(*parts[0])
    else:
        with ProcessPoolExecutor(workers, multiprocessing.get_context("forkserver")) as pool:
            list(pool.map(_touch, *zip(*parts, strict=True)))
    return time.perf_counter() - start


def _touch(pairs: Sequence[Pair], path: Path) -> None:
    with open(path, "wb") as file:
        for pair in pairs:
            for source in (pair.image, pair.label):
                if isinstance(source, Source):
                    data = source.read()
                    if not source.name.endswith(".mat"):
                        Image.open(io.BytesIO(data)).load()
                    file.write(data)
        file.flush()
        os.fsync(file.fileno())
    path.unlink()


def render(rows: Sequence[Row]) -> str:
    """The table for a terminal."""
    cells = [
        [
            f"{row.workers}",
            f"{row.images_per_second:.1f}",
            f"{row.megabytes_per_second:.1f}",
            f"{row.floor_images_per_second:.1f}",
            f"{row.share:.2f}",
        ]
        for row in rows
    ]
    return aligned(["workers", "images/s", "MB/s", "floor images/s", "of the floor"], cells, left=0)


@dataclass(frozen=True)
class Options:
    """The command's."""

    src: Path | None
    dataset: str | None
    spec: str | None
    scenes: int
    workers: tuple[int, ...]
    repeats: int
    json_path: Path | None


def _find(options: Options, scratch: Path) -> RawDataset:
    """The dataset named, or drawn scenes in its layout."""
    src, dataset, spec = options.src, options.dataset, options.spec
    if src is None:
        layout = dataset or "cityscapes"
        drawn_as = {"cocostuff": "cocostuff164k"}.get(layout, layout)
        if layout not in FINDERS:
            raise UserError(f"--dataset {layout!r}{nearest(layout, FINDERS)}")
        return FINDERS[layout](draw(scratch / "raw", drawn_as, {"train": options.scenes, "val": 1}, progress=True))
    if spec is not None:
        return folder.find(src, folder.load_spec(spec))
    if dataset not in FINDERS:
        given = f"--dataset {dataset!r}" if dataset else "SRC needs --dataset"
        raise UserError(f"{given}{nearest(dataset or '', FINDERS)}; or give --spec for a folder")
    return FINDERS[dataset](src)


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.argument("src", required=False, type=click.Path(path_type=Path))
@click.option("--dataset", help="What SRC holds: voc, cityscapes, ade20k, cocostuff.  [without SRC: cityscapes]")
@click.option("--spec", help="For a plain folder: its dataset.yaml, or a shipped one.")
@click.option("--scenes", type=click.IntRange(2), default=48, show_default=True, help="Images drawn without SRC.")
@click.option("--workers", multiple=True, type=click.IntRange(1), help="Repeat for more rows.  [default: 1..cores]")
@click.option("--repeats", type=click.IntRange(1), default=3, show_default=True)
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Also write the rows here.")
@bundled(Options)
def main(options: Options) -> None:
    """Measure ingest in images/s and MB/s for 1..N workers, against the floor of reading, one decode, and writing."""
    with tempfile.TemporaryDirectory(prefix="bench-ingest-") as name:
        scratch = Path(name)
        raw = _find(options, scratch)
        counts = options.workers or tuple(range(1, (os.cpu_count() or 1) + 1))
        rows = measure(raw, counts, options.repeats, scratch)
    click.echo(f"{raw.name}: {sum(len(pairs) for pairs in raw.splits.values())} samples, median of {options.repeats}")
    click.echo(render(rows))
    if options.json_path is not None:
        atomic.write_json(options.json_path, [vars(row) for row in rows])


if __name__ == "__main__":
    run(main, "python -m bench.ingest")
