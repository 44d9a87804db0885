"""How near training comes to the speed of the net alone: `python -m bench.train --cfg RECIPE [DATA]`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import click

from bench.measuring import fresh
from bench.measuring.fresh import Numbers
from bench.results.table import aligned, ratio
from ingest.errors import UserError, nearest, run
from ingest.shards import atomic
from train import config
from train.config import Recipe
from train.log import provenance

ROWS = {
    "cached": "segrail, one cached batch (the net's ceiling)",
    "ours": "segrail",
    "ours-cpu": "segrail, batches made by the CPU",
    "naive": "float32, NCHW, DataLoader + OpenCV",
}
ON_GPU = "ours-cpu"  # the row that says something only where the net is on a GPU
_PARTS = ("data", "forward", "backward", "optimizer", "rest")
RATIOS = {"share_of_cached": "cached", "times_naive": "naive"}
# What we ask of ours / cached and of ours / naive.
TARGETS = {"gpu": (0.98, 4.0), "cpu": (0.95, 1.3)}


def in_process(row: str, recipe: Recipe, steps: int) -> Numbers:
    """`bench.rows.train.measure` in a fresh process."""
    if row == ON_GPU:
        recipe = replace(recipe, data=replace(recipe.data, device="cpu"))
    return fresh.run("bench.rows.train", {"row": row, "recipe": config.to_dict(recipe), "steps": steps})


def render(table: Mapping[str, Numbers]) -> str:
    """Two tables for a terminal: speeds, and where a step's milliseconds go."""
    gpu = any("gpu_mb" in facts for facts in table.values())
    heads = ["", "steps/s", "images/s", "spread", "of cached", "x naive", "wait", "CPU ms/image", "peak MB"]
    speeds = [
        [
            ROWS[row],
            f"{facts['steps_per_second']:.2f}",
            f"{facts['images_per_second']:.1f}",
            f"{facts['spread'] / facts['images_per_second']:.0%}",
            ratio(facts.get("share_of_cached")),
            ratio(facts.get("times_naive")),
            f"{facts['wait_share']:.1%}",
            f"{1000 * facts['cpu_seconds_per_image']:.1f}",
            f"{facts['peak_mb']:.0f}",
            *([f"{facts.get('gpu_mb', 0):.0f}"] if gpu else []),
        ]
        for row, facts in table.items()
    ]
    parts = [
        [ROWS[row], *(f"{1000 * facts[f'{part}_seconds']:.1f}" for part in _PARTS)] for row, facts in table.items()
    ]
    whole = aligned([*heads, "GPU MB"] if gpu else heads, speeds)
    return f"{whole}\n\n{aligned(['ms a step', *_PARTS], parts)}"


def best(found: Mapping[str, Sequence[Numbers]]) -> str:
    """The fastest repeats side by side: a machine's other work slows a row down, and never speeds it up."""
    fastest = {row: max(repeat["images_per_second"] for repeat in repeats) for row, repeats in found.items()}
    if len(fastest) < 2 or min(len(repeats) for repeats in found.values()) < 2:
        return ""
    speeds = ", ".join(f"{row} {speed:.1f}" for row, speed in fastest.items())
    ratios = [
        f"{fastest['ours'] / fastest[row]:.2f} of {row}" for row in fastest if row != "ours" and "ours" in fastest
    ]
    return f"Fastest repeats, images/s: {speeds}" + (f"; ours is {', '.join(ratios)}." if ratios else ".")


def sentence(table: Mapping[str, Numbers], device: str) -> str:
    """Says what bounds training: data, the cores that loader and net share, or a part of the net's own step."""
    if "ours" not in table:
        return ""
    ours = table["ours"]
    near, times = TARGETS[device]
    wait = ours["wait_share"]
    share = ours.get("share_of_cached")
    step = sum(ours[f"{part}_seconds"] for part in _PARTS)
    worst = max(_PARTS[1:], key=lambda part: ours[f"{part}_seconds"])
    whose = {"forward": "the forward pass", "backward": "the backward pass", "optimizer": "the optimizer"}
    net = f"{whose.get(worst, 'what is around the step')}, {ours[f'{worst}_seconds'] / step:.0%} of a step"
    if wait > 1 - near:
        text = f"Bounded by data: {wait:.1%} of the time is spent waiting for it; see `python -m bench.loader --tune`."
    elif share is not None and share < near:
        why = "the loader's threads take them from the net" if device == "cpu" else "the host does not keep up"
        text = f"Bounded by the cores: data is there ({wait:.1%} wait), but {why}; then by {net}."
    else:
        text = f"Bounded by the net: {net}; {wait:.1%} of the time is spent waiting for data."
    verdicts, noisy = [], bool(fresh.noise(table))
    if share is not None:
        verdicts.append(f"{share:.2f} of a cached batch's speed (target {near:.2f}{_met(share >= near, noisy)})")
    if "times_naive" in ours:
        gain = ours["times_naive"]
        verdicts.append(f"{gain:.2f} times the naive way (target {times:.1f}{_met(gain >= times, noisy)})")
    return text + (f"\nsegrail: {', '.join(verdicts)}." if verdicts else "")


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.option("--cfg", "recipe", required=True, help="A recipe file, or the name of a shipped recipe.")
@click.option("--rows", help=f"Comma-separated: {', '.join(ROWS)}.  [default: all]")
@click.option("--steps", type=click.IntRange(1), help="Per row and repeat.  [default: 30 on a CPU, 100 on a GPU]")
@click.option("--repeats", type=click.IntRange(1), default=3, show_default=True, help="Rounds; medians are shown.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write every measurement, with provenance.")
@click.argument("words", nargs=-1, metavar="[DATA] [KEY=VALUE]...")
def command(
    recipe: str, rows: str | None, steps: int | None, repeats: int, json_path: Path | None, words: tuple[str, ...]
) -> None:
    """Compare the speed of training with that of the net alone, and with the naive way.

    \b
    python -m bench.train --cfg camvid_enet shards/camvid
    python -m bench.train --cfg my.yaml net.name=pspnet data.threads=4 --steps 200 --json out.json

    DATA is a shard folder, in place of the recipe's data.path. Each row runs in a process of its own, in turn with the
    others, and takes real optimizer steps by the recipe, without validation and checkpoints:

    \b
      cached   one batch again and again: what the net alone can do
      ours     the recipe as it is trained
      ours-cpu on a GPU: the same with data.device=cpu, batches made by the CPU and copied
      naive    float32, NCHW, eager; DataLoader workers with PIL and OpenCV step by step; int64 labels; normalized on
               the CPU; cross-entropy; torch's plain optimizer; metrics and loss fetched at every step

    Columns: steps and images a second (medians), the spread of the repeats, the ratios, the share of time spent waiting
    for data (on a GPU: that the device had nothing to do), CPU time and peak memory of all processes. Below, where the
    milliseconds of a step go: "forward" has the loss, "optimizer" the clipping, "rest" metrics and book-keeping.
    """
    import torch

    if json_path is not None and not json_path.parent.is_dir():
        raise UserError(f"--json {json_path}: the folder {json_path.parent} does not exist")
    folders = [word for word in words if "=" not in word]
    if len(folders) > 1:
        raise UserError(f"{' and '.join(folders)}: give one shard folder, and overrides as key=value")
    overrides = [word for word in words if "=" in word] + [f"data.path={folder}" for folder in folders]
    parsed = config.load(recipe, overrides)
    device = "gpu" if parsed.train.device != "cpu" and torch.cuda.is_available() else "cpu"
    if parsed.train.device == "gpu" and device == "cpu":
        raise UserError("train.device = gpu: this machine shows no GPU; use train.device=cpu")
    chosen = _rows(rows, device)
    _check_data(parsed)
    count = steps or (100 if device == "gpu" else 30)
    found = fresh.rounds(chosen, partial(in_process, recipe=parsed, steps=count), repeats, "bench.train")
    table = fresh.summarize(found, RATIOS)
    head = (
        f"{parsed.name}: {parsed.net.name}, crop {parsed.augment.crop[1]}x{parsed.augment.crop[0]}, batch "
        f"{parsed.data.batch_size}, {device}, {provenance.versions()[device]}; medians of {repeats} x {count} steps"
    )
    bound = sentence(table, device)
    click.echo("\n".join(filter(None, [head, render(table), bound, fresh.noise(table), best(found)])))
    if json_path is not None:
        facts: dict[str, Any] = {
            "recipe": config.to_dict(parsed),
            "steps": count,
            "rows": table,
            "repeats": found,
            "bound": bound,
            "torch_threads": torch.get_num_threads(),
            "versions": provenance.versions(),
        }
        atomic.write_json(json_path, facts)


def _rows(given: str | None, device: str) -> list[str]:
    names = (
        [name.strip() for name in given.split(",")] if given else [r for r in ROWS if r != ON_GPU or device == "gpu"]
    )
    for name in names:
        if name not in ROWS:
            raise UserError(f"--rows names {name!r}{nearest(name, ROWS)}")
        if name == ON_GPU and device != "gpu":
            raise UserError(f"--rows names {name!r}, which says something only on a GPU: leave it out here")
    return names


def _check_data(recipe: Recipe) -> None:
    """A mistake in the data is reported here, once, not by each row's process."""
    from ingest.shards import joined
    from pipeline.config import stream_of
    from pipeline.loader import TrainLoader

    if not recipe.data.path:
        raise UserError("no data: name a shard folder, such as `python -m bench.train --cfg camvid_enet shards/camvid`")
    stream = stream_of(recipe.seed, recipe.data, recipe.augment)
    TrainLoader(joined.open_split(recipe.data.folders, recipe.data.train), stream)


def _met(yes: bool, noisy: bool) -> str:
    """No verdict where the repeats lie too far apart for one."""
    return "" if noisy else ": met" if yes else ": missed"


if __name__ == "__main__":
    run(command, "python -m bench.train")
