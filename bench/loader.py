"""How fast the loader is, against whom, and what the limit is: `python -m bench.loader [DIR]`."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import click
from tqdm.auto import tqdm

from bench import loaders, tune
from bench.data import scenes
from bench.data.cases import Case, cases, describe, how
from bench.data.setting import Setting
from bench.measuring import fresh
from bench.results import bounds, loader_table, plots
from bench.rows.loader import in_process
from ingest.errors import UserError, nearest, run
from ingest.shards import atomic
from ingest.shards.reader import ShardSet
from ingest.shards.wording import count
from pipeline.feeding import available_threads
from pipeline.options import bundled
from train import config
from train.config import Recipe
from train.log import provenance


@dataclass(frozen=True)
class Options:
    """The command's."""

    folder: str | None
    recipe: str | None
    split: str
    device: str
    rows: str | None
    sizes: str | None
    keep: Path | None
    batch: int | None
    threads: int | None
    seconds: float
    repeats: int
    tunes: bool
    json_path: Path | None
    plot: Path | None


@dataclass(frozen=True)
class Measured:
    """What one dataset gave: facts for the JSON, and of the table its chart."""

    facts: dict[str, Any]
    chart: plots.Chart | None = None
    complete: bool = True
    """Whether every row ran."""


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
@bundled(Options)
def command(options: Options) -> int:
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
      ours-cpu        on a GPU: segrail's batches made by the CPU and copied to the GPU
      dali            DALI's readers.webdataset and its resize, rotate, crop, flip and blur
      opencv          torch DataLoader, PIL and OpenCV step by step, float32: as yassouali/pytorch-segmentation does
      torchvision     webdataset library, torchvision v2 transforms, torch DataLoader
      albumentations  torch DataLoader, OpenCV's decoders, albumentations 2.0 (in --rows all; extra `peers`)
      decoded         torchvision v2 transforms on pixels decoded into a memory-mapped file beforehand, up to 2 GiB of
                      them (in --rows all): what no decoding at all saves the usual loader
      ours-no-scale, ours-no-rotate, ours-no-flip, ours-no-blur, ours-no-augment, ours-no-antialias
                      segrail without one of them, or all: what each costs (in --rows all)
      ours-with-colors, ours-with-turns, ours-with-erasing
                      segrail with one that is off by default

    Each row runs in a process of its own, in turn with the others. Columns: median images/s and the spread of the
    repeats; megapixels/s of crop; the share of `decode`; how many times `opencv`; CPU time and peak memory of all the
    row's processes (pages that processes share are counted in each). No row gets more than --threads cores. The exit
    code is 1 when a row failed.
    """
    place = _place(options.device)
    _check(options)
    default = [row for row in loaders.ROWS if row in loaders.DEFAULT or (place == "gpu" and loaders.ROWS[row].gpu_only)]
    rows = _names("--rows", options.rows, default, loaders.ROWS)
    sizes = _names("--sizes", options.sizes, list(scenes.DEFAULT), scenes.SIZES)
    recipe = config.load(options.recipe) if options.recipe else None
    measured: dict[str, Measured] = {}
    with cases(options.folder, sizes, options.keep, recipe.augment if recipe else None) as todo:
        for case in todo:
            shards = ShardSet(case.folder, options.split)
            setting = _setting(case, shards, options, recipe, place)
            if options.tunes:
                measured[case.title] = _tune(case, setting, options)
            else:
                measured[case.title] = _compare(case, shards, setting, _runnable(rows, shards, place), options)
    _write(measured, options)
    return 0 if all(one.complete for one in measured.values()) else 1  # of a row that failed, a warning has said why


def _place(device: str) -> str:
    """cpu or gpu. UserError when a GPU is asked for and there is none."""
    import torch

    if device == "gpu" and not torch.cuda.is_available():
        raise UserError("--device gpu: this machine shows no GPU; use --device cpu")
    return "gpu" if device != "cpu" and torch.cuda.is_available() else "cpu"


def _check(options: Options) -> None:
    """Mistakes that would else be met after minutes of measuring."""
    for option, path in (("--json", options.json_path), ("--plot", options.plot)):
        if path is not None and not path.parent.is_dir():
            raise UserError(f"{option} {path}: the folder {path.parent} does not exist")
        if path is not None and path.is_dir():
            raise UserError(f"{option} {path} is a folder: give a file's name")
    if not math.isfinite(options.seconds):
        raise UserError(f"--seconds {options.seconds}: expected a number of seconds, such as 2")


def _setting(case: Case, shards: ShardSet, options: Options, recipe: Recipe | None, place: str) -> Setting:
    size = options.batch or (recipe.data.batch_size if recipe else 8)
    if not shards.labeled:
        raise UserError(f"split {options.split!r} of {case.folder} has no labels: give --split a labeled one")
    if len(shards) < size:
        raise UserError(
            f"split {options.split!r} has {count(len(shards), 'sample')}, fewer than a batch of {size}: lower --batch"
        )
    prefetch = recipe.data.prefetch if recipe else 2
    threads = options.threads or available_threads()
    return Setting(case.folder, options.split, case.augment, size, threads, place, prefetch)


def _runnable(rows: Iterable[str], shards: ShardSet, place: str) -> list[str]:
    """The rows that can run here; of the others it is said why they cannot."""
    kept = []
    for row in rows:
        if why := loaders.obstacle(row, shards.manifest.channels, place):
            click.echo(f"row {row!r} is left out: {why}", err=True)
        else:
            kept.append(row)
    return kept


def _compare(case: Case, shards: ShardSet, setting: Setting, rows: list[str], options: Options) -> Measured:
    """Measures the rows and shows their table."""
    measure = partial(in_process, setting=setting, seconds=options.seconds)
    found = fresh.rounds(rows, measure, options.repeats, case.title)
    table = fresh.summarize(found, loader_table.RATIOS)
    sentence = bounds.sentence(table, setting.threads, setting.device)
    head = describe(case, shards, setting, f"{options.repeats} x {options.seconds:g} s")
    lines = [head, loader_table.render(table, setting), sentence, loader_table.costs(table), fresh.noise(table)]
    click.echo("\n".join(filter(None, lines)) + "\n")
    facts = {
        "setting": asdict(setting),
        "data": {"header": head, "samples": len(shards)},
        "rows": table,
        "repeats": found,
        "bound": sentence,
    }
    return Measured(facts, loader_table.chart(f"{case.title}: {how(setting)}", table), len(found) == len(rows))


def _tune(case: Case, setting: Setting, options: Options) -> Measured:
    with tqdm(desc=f"tune: {case.title}", unit="setting", leave=False, dynamic_ncols=True, disable=None) as bar:

        def measure(candidate: Setting) -> float:
            bar.update()
            return in_process("ours", candidate, options.seconds)["images_per_second"]

        chosen, tried = tune.tune(setting, setting.threads, options.repeats, measure)
    medians = f"medians of {options.repeats} x {options.seconds:g} s"
    click.echo(f"{case.title}, {setting.device}, {medians}\n{tune.render(tried)}")
    lines = tune.recipe_lines(chosen, setting.batch)
    note = "" if setting.device == "gpu" else "   # beside a net on the same CPU, see `python -m bench.train`"
    click.echo(f"\nfor the recipe:{note}\n{lines}\n")
    settings = [{**asdict(one.setting), "images_per_second": one.images_per_second} for one in tried]
    return Measured({"tried": settings, "recipe": lines})


def _write(measured: dict[str, Measured], options: Options) -> None:
    if options.json_path:
        tables = {title: one.facts for title, one in measured.items()}
        atomic.write_json(options.json_path, {"tables": tables, "versions": provenance.versions()})
    charts = [one.chart for one in measured.values() if one.chart]
    if options.plot and charts:
        plots.draw(charts, options.plot)


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
