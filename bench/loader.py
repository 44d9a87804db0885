"""How fast the loader is, against whom, and what the limit is: `python -m bench.loader [DIR]`."""

from __future__ import annotations

import contextlib
import json
import math
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np
from tqdm import tqdm

from bench import bounds, fresh, loaders, plots, report, scenes, tune
from bench.measure import in_process
from bench.setting import Setting
from ingest.errors import UserError, nearest, run
from ingest.shards import remote
from ingest.shards.reader import ShardSet
from pipeline.augment import Augment
from pipeline.feeding import available_threads
from train import config
from train.log import provenance


@dataclass(frozen=True)
class Case:
    """One dataset to measure on."""

    title: str
    folder: str
    augment: Augment
    real: str = ""


def describe(case: Case, shards: ShardSet, setting: Setting, seconds: float, repeats: int) -> str:
    """The lines above a table: what was measured, on what."""
    images, labels = shards.file_sizes.mean(axis=0) / 1000
    height, width = np.median(shards.sizes_hw, axis=0).astype(int)
    real = f" ({case.real})" if case.real else ""
    crop = setting.augment.crop
    return (
        f"{case.title}: {len(shards)} images of {width}x{height}, {images:.0f} kB each, labels {labels:.0f} kB{real}\n"
        f"crop {crop[1]}x{crop[0]}, batch {setting.batch}, {setting.threads} threads, {setting.device}; "
        f"medians of {repeats} x {seconds:g} s"
    )


@contextlib.contextmanager
def cases(folder: str | None, sizes: list[str], keep: Path | None, augment: Augment | None) -> Iterator[Iterator[Case]]:
    """What to measure on: the folder given, or scenes, each size drawn when its turn comes."""
    with tempfile.TemporaryDirectory(prefix="bench-") as temporary:
        if folder is not None:
            path = str(remote.stage(folder)) if remote.is_url(folder) else folder
            yield iter([Case(folder, path, augment or Augment())])
            return

        def drawn() -> Iterator[Case]:
            for name in sizes:
                size = scenes.SIZES[name]
                click.echo(f"drawing scenes: {size.title}", err=True)
                path = scenes.make(name, keep or Path(temporary))
                yield Case(f"street scenes, {size.title}", str(path), augment or size.augment, size.real)

        yield drawn()


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.argument("folder", required=False, metavar="[DIR]")
@click.option("--cfg", "recipe", help="Take crop, augmentation, batch size and prefetch from a recipe.")
@click.option("--split", default="train", show_default=True)
@click.option("--device", type=click.Choice(["auto", "cpu", "gpu"]), default="auto", show_default=True)
@click.option("--rows", help=f"Comma-separated names, or all; see above.  [default: {','.join(loaders.DEFAULT)}]")
@click.option(
    "--sizes", help=f"Scenes to draw without DIR: {', '.join(scenes.SIZES)}.  [default: {','.join(scenes.DEFAULT)}]"
)
@click.option("--scenes", "keep", type=click.Path(path_type=Path), help="Keep the scenes there, and use them again.")
@click.option("--batch", type=click.IntRange(1), help="Images a batch.  [default: the recipe's, or 8]")
@click.option("--threads", type=click.IntRange(1), help="Threads or workers of every row.  [default: all cores]")
@click.option("--seconds", type=click.FloatRange(0.1), default=2.0, show_default=True, help="Per row and repeat.")
@click.option("--repeats", type=click.IntRange(1), default=3, show_default=True, help="Rounds; medians are shown.")
@click.option("--tune", "tunes", is_flag=True, help="Search threads, prefetch and batch split for segrail instead.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write every measurement, with provenance.")
@click.option("--plot", type=click.Path(path_type=Path), help="Draw the bars into this PNG.")
def command(
    folder: str | None,
    recipe: str | None,
    split: str,
    device: str,
    rows: str | None,
    sizes: str | None,
    keep: Path | None,
    batch: int | None,
    threads: int | None,
    seconds: float,
    repeats: int,
    tunes: bool,
    json_path: Path | None,
    plot: Path | None,
) -> int:
    """Compare loaders on the same shards, crop, augmentations and cores, and say what bounds ours.

    DIR is a shard folder (or a URL). Without it the bench draws street scenes of its own, of VOC's and Cityscapes'
    size, and gives a table for each; with the defaults that takes about six minutes on two cores, `--sizes voc` two.

    \b
    python -m bench.loader shards/voc --cfg my.yaml --json out.json --plot out.png
    python -m bench.loader --sizes cityscapes-jpeg --rows decode,ours,opencv
    python -m bench.loader shards/voc --cfg my.yaml --tune

    \b
    Rows:
      read            fetching and copying every byte of the files, nothing else
      decode          DALI decoding image and label whole: the limit that shares are of (segrail can pass it where
                      it need not decode all, or decodes by other means)
      ours            segrail
      dali            DALI's readers.webdataset and its resize, rotate, crop, flip and blur
      opencv          torch DataLoader, PIL and OpenCV step by step, float32: the predecessor's way
      torchvision     webdataset library, torchvision v2 transforms, torch DataLoader
      ours-no-scale, ours-no-rotate, ours-no-flip, ours-no-blur, ours-no-augment, ours-no-antialias
                      segrail without one of them, or all: what each costs (in --rows all)

    Each row runs in a process of its own, in turn with the others. Columns: median images/s and the spread of the
    repeats; megapixels/s of crop; the share of `decode`; how many times `opencv`; CPU time and peak memory of all the
    row's processes (pages that processes share are counted in each). No row gets more than --threads cores. The exit
    code is 1 when a row failed.
    """
    import torch

    chosen = _names("--rows", rows, list(loaders.DEFAULT), loaders.ROWS)
    sizes_chosen = _names("--sizes", sizes, list(scenes.DEFAULT), scenes.SIZES)
    if device == "gpu" and not torch.cuda.is_available():
        raise UserError("--device gpu: this machine shows no GPU; use --device cpu")
    for option, path in (("--json", json_path), ("--plot", plot)):
        if path is not None and not path.parent.is_dir():
            raise UserError(f"{option} {path}: the folder {path.parent} does not exist")
        if path is not None and path.is_dir():
            raise UserError(f"{option} {path} is a folder: give a file's name")
    if not math.isfinite(seconds):
        raise UserError(f"--seconds {seconds}: expected a number of seconds, such as 2")
    place = "gpu" if device == "gpu" or (device == "auto" and torch.cuda.is_available()) else "cpu"
    parsed = config.load(recipe) if recipe else None
    tables: dict[str, Any] = {}
    charts = []
    failed = False
    with cases(folder, sizes_chosen, keep, parsed.augment if parsed else None) as todo:
        for case in todo:
            shards = ShardSet(case.folder, split)
            size = batch or (parsed.data.batch_size if parsed else 8)
            if not shards.labeled:
                raise UserError(f"split {split!r} of {case.folder} has no labels: give --split a labeled one")
            if len(shards) < size:
                raise UserError(
                    f"split {split!r} has {len(shards)} samples, fewer than a batch of {size}: lower --batch"
                )
            prefetch = parsed.data.prefetch if parsed else 2
            setting = Setting(case.folder, split, case.augment, size, threads or available_threads(), place, prefetch)
            if tunes:
                tables[case.title] = _tune(case, setting, seconds, repeats)
                continue
            runnable = []
            for row in chosen:
                if why := loaders.obstacle(row, shards.manifest.channels):
                    click.echo(f"row {row!r} is left out: {why}", err=True)
                else:
                    runnable.append(row)
            found = fresh.rounds(runnable, partial(in_process, setting=setting, seconds=seconds), repeats, case.title)
            failed |= len(found) < len(runnable)
            table = report.summarize(found)
            sentence = bounds.sentence(table, setting.threads, place)
            head = describe(case, shards, setting, seconds, repeats)
            lines = [head, report.render(table, setting), sentence, report.costs(table), fresh.noise(table)]
            click.echo("\n".join(filter(None, lines)) + "\n")
            tables[case.title] = {
                "setting": asdict(setting),
                "data": {"header": head, "samples": len(shards)},
                "rows": table,
                "repeats": found,
                "bound": sentence,
            }
            charts.append(report.chart(case.title, table))
    if json_path:
        facts = {"tables": tables, "versions": provenance.versions()}
        json_path.write_text(json.dumps(facts, indent=1) + "\n")
    if plot and charts:
        plots.draw(charts, plot)
    return 1 if failed else 0  # of a row that failed, a warning has said why


def _tune(case: Case, setting: Setting, seconds: float, repeats: int) -> dict[str, Any]:
    with tqdm(desc=f"tune: {case.title}", unit="setting", leave=False, dynamic_ncols=True, disable=None) as bar:

        def measure(candidate: Setting) -> float:
            bar.update()
            return in_process("ours", candidate, seconds)["images_per_second"]

        chosen, tried = tune.tune(setting, setting.threads, repeats, measure)
    click.echo(f"{case.title}, {setting.device}, medians of {repeats} x {seconds:g} s\n{tune.render(tried)}")
    lines = tune.recipe_lines(chosen, setting.batch)
    note = "" if setting.device == "gpu" else "   # beside a net on the same CPU, see `python -m bench.train`"
    click.echo(f"\nfor the recipe:{note}\n{lines}\n")
    return {
        "tried": [{**asdict(one.setting), "images_per_second": one.images_per_second} for one in tried],
        "recipe": lines,
    }


def _names(option: str, given: str | None, default: list[str], known: Any) -> list[str]:
    if given is None:
        return default
    if given == "all":
        return list(known)
    names = [name.strip() for name in given.split(",")]
    for name in names:
        if name not in known:
            raise UserError(f"{option} names {name!r}{nearest(name, [*known, 'all'])}")
    return list(dict.fromkeys(names))


if __name__ == "__main__":
    run(command, "python -m bench.loader")
