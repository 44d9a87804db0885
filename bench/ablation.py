"""What pays: a recipe with and without a change, over several seeds: `python -m bench.ablation --cfg R --variants F`.

One run after the other, by turns: all variants of the first seed, then of the second, so that what changes on the
machine meanwhile meets all of them. Each result is a line of a JSON lines file; a call that was interrupted goes on
where it was.
"""

from __future__ import annotations

import hashlib
import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from bench.measuring.training import Train, in_process
from bench.results import runs
from ingest.errors import UserError, brief, message, run
from pipeline import recipe as recipe_file
from pipeline.options import bundled
from train import config

PROBE_STEPS = 60  # of the short run that --minutes takes a step's time from


@dataclass(frozen=True)
class Options:
    """The command's."""

    recipe: str
    variants: Path
    seeds: int
    minutes: float | None
    out: Path
    classes: str
    table_only: bool
    overrides: tuple[str, ...]


@dataclass(frozen=True)
class Job:
    """One run to be made."""

    variant: str
    seed: int
    overrides: tuple[str, ...]
    """All of them: the command's, the variant's, then the seed's."""
    digest: str
    """Of the recipe's file, the overrides and the minutes: another recipe is another measurement."""

    @property
    def name(self) -> str:
        """The run's. A run of that name that is there already is this very one, and is gone on with."""
        return f"{self.variant}-s{self.seed}-{self.digest}"


def read_variants(path: Path) -> dict[str, list[str]]:
    """Name -> overrides, from a YAML file such as `{base: {}, ema: {train.ema: 0.99}}`. UserError for another form."""
    example = "expected names with overrides, such as `base: {}` and `ema: {train.ema: 0.99}`"
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise UserError(f"--variants {path}: there is no such file: {example}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not YAML: {message(error)}") from error
    raw = recipe_file.parsed(text, f"{path} is not YAML")
    if not isinstance(raw, dict) or not raw:
        raise UserError(f"{path} holds {brief(raw)}: {example}")
    found = {}
    for name, changes in raw.items():
        if not isinstance(name, str) or not isinstance(changes, dict):
            raise UserError(f"{path}: {brief(name)}: {brief(changes)}: {example}")
        found[name] = [f"{key}={json.dumps(value)}" for key, value in changes.items()]
    return found


def jobs(options: Options) -> list[Job]:
    """By turns: seed outer, variant inner. UserError for a variant that is no sound recipe, before any run."""
    variants = read_variants(options.variants)
    raw = recipe_file.read(options.recipe, [config.RECIPES])
    found = []
    for seed in range(options.seeds):
        for name, changes in variants.items():
            overrides = (*options.overrides, *changes, f"seed={seed}")
            whole = json.dumps([raw, overrides, options.minutes], sort_keys=True, default=str)
            job = Job(name, seed, overrides, hashlib.sha256(whole.encode()).hexdigest()[:6])
            try:
                config.load(options.recipe, [*job.overrides, f"name={job.name}"])
            except UserError as error:
                raise UserError(f"variant {name}: {error}") from error
            found.append(job)
    return found


def measure(options: Options, train: Train) -> list[str]:
    """Makes the runs that `options.out` does not hold yet, and appends each result as soon as it is known.

    Returns what is said of those that failed: the others go on.
    """
    todo, failed = jobs(options), []
    with open(options.out, "a", encoding="utf-8") as file:  # before the first run: a wrong path must not cost it
        for number, job in enumerate(todo, 1):
            if _find(read_results(options.out), job) is not None:
                continue
            click.echo(f"[{number}/{len(todo)}] {job.variant}, seed {job.seed}: {' '.join(job.overrides)}")
            try:
                steps = [f"train.steps={_steps(options, job, train)}"] if options.minutes else []
                found = runs.read(train(options.recipe, [*job.overrides, *steps], job.name))
            except UserError as error:
                failed.append(str(error))
                click.echo(f"warning: {error}", err=True)
                continue
            file.write(json.dumps(_result(options, job, found)) + "\n")
            file.flush()
            click.echo(table(options, read_results(options.out)))
    return failed


def _steps(options: Options, job: Job, train: Train) -> int:
    """How many take options.minutes, by the speed of a short run of the variant just before."""
    assert options.minutes is not None
    probe = [f"train.steps={PROBE_STEPS}", f"train.log_every={PROBE_STEPS // 3}", "data.val=", "train.patience=0"]
    folder = train(options.recipe, [*job.overrides, *probe], f"{job.name}-probe")
    return max(1, round(60 * options.minutes / runs.seconds_per_step(folder)))


def _result(options: Options, job: Job, found: runs.Finished) -> dict[str, Any]:
    return {
        "recipe": options.recipe,
        "variant": job.variant,
        "seed": job.seed,
        "overrides": list(job.overrides),
        "digest": job.digest,
        **found.outcome(),
        "run": str(found.folder),
    }


def read_results(path: Path) -> list[dict[str, Any]]:
    """The lines of a results file; [] where there is none. UserError names a line that is no JSON."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    found = []
    for number, line in enumerate(lines, 1):
        try:
            found.append(json.loads(line))
        except ValueError as error:
            raise UserError(f"{path}, line {number} is no JSON: delete it, its run is then looked up again") from error
    return found


def _find(results: Sequence[Mapping[str, Any]], job: Job) -> Mapping[str, Any] | None:
    key = {"variant": job.variant, "seed": job.seed, "digest": job.digest}
    return next((one for one in results if all(one.get(name) == value for name, value in key.items())), None)


def table(options: Options, results: Sequence[Mapping[str, Any]]) -> str:
    """Means +- standard deviations (n - 1) over the seeds, in percent points; `change` is paired by seed."""
    by_variant: dict[str, dict[int, Mapping[str, Any]]] = {}
    for job in jobs(options):
        if (found := _find(results, job)) is not None:
            by_variant.setdefault(job.variant, {})[job.seed] = found
    if not by_variant:
        return "no result yet"
    names = [name for name in options.classes.split(",") if name]
    first = next(iter(by_variant))
    rows = [["variant", "seeds", "mIoU", f"change to {first}", "pixel accuracy", *names, "steps", "minutes"]]
    for variant, of in by_variant.items():
        both = [seed for seed in of if seed in by_variant[first]]
        change = [of[seed]["miou"] - by_variant[first][seed]["miou"] for seed in both]
        scores = [[one["miou"] for one in of.values()], change, [one["pixel_accuracy"] for one in of.values()]]
        scores += [[one["iou"][name] for one in of.values() if one["iou"].get(name) is not None] for name in names]
        cells = [_spread(values) for values in scores]
        cells[1] = "-" if variant == first else cells[1]
        steps = statistics.mean(one["steps"] for one in of.values())
        minutes = statistics.mean(one["minutes"] for one in of.values())
        rows.append([variant, str(len(of)), *cells, f"{steps:.0f}", f"{minutes:.1f}"])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in rows
    ]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)


def _spread(values: Sequence[float]) -> str:
    """`60.1 +- 0.8`, in percent; of a single value no spread is known."""
    if not values:
        return "-"
    spread = statistics.stdev(values) if len(values) > 1 else math.nan
    return f"{100 * statistics.mean(values):.2f}" + ("" if math.isnan(spread) else f" +- {100 * spread:.2f}")


@click.command(context_settings={"max_content_width": 110})
@click.option("--cfg", "recipe", required=True, help="A recipe file, or the name of a shipped recipe.")
@click.option(
    "--variants",
    required=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="YAML: names with overrides, such as {base: {}, ema: {train.ema: 0.99}}; the first is compared with.",
)
@click.option("--seeds", type=click.IntRange(1), default=3, show_default=True, help="Runs a variant: seeds 0, 1, ...")
@click.option(
    "--minutes",
    type=click.FloatRange(0, min_open=True),
    help="Of training for each run, by its own speed before it.  [default: the recipe's length, equal steps]",
)
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("ablation.jsonl"),
    show_default=True,
    help="The results, a line a run; what it holds is not run again.",
)
@click.option("--classes", default="", help="Also show the IoU of these, such as pole,fence.")
@click.option("--table", "table_only", is_flag=True, help="Run nothing, show what --out holds.")
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@bundled(Options)
def command(options: Options) -> None:
    """Train a recipe's variants over several seeds, by turns, and compare their last validations.

    \b
    python -m bench.ablation --cfg camvid_enet --variants variants.yaml train.epochs=20

    Scores are those of the last weights, not of the best validation. Runs go to the recipe's `output`.
    """
    failed = [] if options.table_only else measure(options, in_process)
    click.echo(table(options, read_results(options.out)))
    if failed:
        raise UserError(f"{len(failed)} runs are missing ({'; '.join(failed)}): called again, only these are made")


if __name__ == "__main__":
    run(command, "python -m bench.ablation")
