"""Our nets and recipes beside the published ones, as one page: `python -m bench.parity`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import torch
from tqdm.auto import tqdm

from bench.measuring.training import Train, in_process
from bench.parity import costs, page, results
from ingest.errors import UserError, nearest, run
from ingest.shards import atomic, manifest
from pipeline.options import bundled
from train import config
from train.config import Recipe

PAGE = Path(__file__).resolve().parent.parent.parent / "docs" / "parity.md"


@dataclass(frozen=True)
class Options:
    """The command's."""

    name: str | None
    seeds: int
    folders: tuple[Path, ...]
    recipe: str | None
    out: Path
    results_file: Path
    overrides: tuple[str, ...]


def count(known: dict[str, Any], all_of_them: bool) -> None:
    """Counts the nets, or those that were not counted yet, into `known`."""
    nets = costs.load()
    counted = known["nets"]
    known["nets"] = {one.key: counted[one.key] for one in nets if one.key in counted and not all_of_them}
    missing = [one for one in nets if one.key not in known["nets"]]
    for one in (bar := tqdm(missing, unit="net", leave=False, disable=None)):
        bar.set_description(one.net)
        known["nets"][one.key] = costs.count(one)
    known["nets"] = {one.key: known["nets"][one.key] for one in nets}


def reproduce(options: Options, name: str, train: Train) -> list[dict[str, Any]]:
    """Trains the recipe on all GPUs, once a seed; what is known of the finished runs."""
    if name not in config.shipped():
        raise UserError(f"--run {name}: expected a shipped recipe{nearest(name, config.shipped())}")
    loaded = config.load(name, list(options.overrides))
    _need_data(name, loaded)
    overrides = [*options.overrides, *_batch(loaded.data.batch_size, options.overrides)]
    found = []
    for seed in range(options.seeds):
        folder = train(name, [*overrides, f"seed={seed}"], f"{name}-s{seed}")
        found.append(results.read(folder, name))
    return found


def _need_data(name: str, loaded: Recipe) -> None:
    """UserError where a folder of data.path holds no shards, with the recipe's own command that makes them."""
    for folder in loaded.data.folders:
        try:
            manifest.load(folder.path)
        except UserError as error:
            lines = (config.RECIPES / f"{name}.yaml").read_text().splitlines()
            made = [line.removeprefix("#   ") for line in lines if line.startswith("#   python -m ingest ")]
            command = re.split(r" +[(\[]", made[0])[0] if made else "python -m ingest ..."
            raise UserError(
                f"data.path = {folder.path}: no shards there ({str(error).partition(';')[0]}): give data.path=FOLDER, "
                f"or make them: {command} --out {folder.path}"
            ) from error


def _batch(batch: int, overrides: tuple[str, ...]) -> list[str]:
    """The recipe's batch is that of all GPUs together: each takes its part, unless the user has said how many."""
    gpus = torch.cuda.device_count()
    if gpus < 2 or any(override.startswith("data.batch_size=") for override in overrides):
        return []
    if batch % gpus:
        raise UserError(
            f"data.batch_size = {batch} cannot be shared by {gpus} GPUs: choose fewer with CUDA_VISIBLE_DEVICES, or "
            "give the batch of each, data.batch_size=N"
        )
    return [f"data.batch_size={batch // gpus}"]


@click.command(context_settings={"max_content_width": 110})
@click.option("--run", "name", metavar="RECIPE", help="Train it on all GPUs, and take its score in.")
@click.option("--seeds", type=click.IntRange(1), default=1, show_default=True, help="With --run: 0, 1, ...")
@click.option(
    "--add",
    "folders",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Take in a finished run's folder. Repeatable.",
)
@click.option("--recipe", help="With --add: what it trained.  [default: the recipe that the run is named after]")
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    default=PAGE,
    help="The page.  [default: docs/parity.md of this clone]",
)
@click.option(
    "--results",
    "results_file",
    type=click.Path(dir_okay=False, path_type=Path),
    default=results.FILE,
    help="What is known.  [default: bench/parity/results.json]",
)
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@bundled(Options)
def main(options: Options) -> None:
    """Write the page that sets our nets and recipes beside the published ones.

    \b
    python -m bench.parity                          counts all nets anew
    python -m bench.parity --run ade20k_pspnet      trains a recipe on this machine, and fills its row
    python -m bench.parity --add saved/NAME/RUN     takes in a run that is there

    --run goes on with a run of that name that was interrupted. KEY=VALUE are overrides of its recipe: the page names
    them.
    """
    if options.overrides and not options.name:
        raise UserError(f"{options.overrides[0]}: overrides are those of --run RECIPE, which is missing")
    if not options.out.parent.is_dir():
        raise UserError(f"--out {options.out}: the folder {options.out.parent} does not exist")
    known = results.load(options.results_file)
    new = [results.read(folder, options.recipe) for folder in options.folders]
    if options.name:
        new += reproduce(options, options.name, in_process)
    count(known, all_of_them=not new)
    for one in new:
        results.add(known, one)
        click.echo(f"{one['recipe']}, seed {one['seed']}: mIoU {100 * one['miou']:.2f}")
    results.save(known, options.results_file)
    atomic.write_text(options.out, page.markdown(known))
    click.echo(f"wrote {options.out} and {options.results_file}")


if __name__ == "__main__":
    run(main, "python -m bench.parity")
