"""How fast the loader is, against whom, and what the limit is: `python -m bench.loader [DIR]`."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import click
from tqdm import tqdm

from bench.measure import in_process
from bench.rows import ROWS, TITLES, Setting
from ingest import manifest, remote
from ingest.errors import UserError, nearest, run
from pipeline.augment import Augment
from pipeline.loader import available_threads
from train import config, provenance


def compare(rows: list[str], setting: Setting, seconds: float, repeats: int) -> dict[str, list[dict[str, float]]]:
    """Measures the rows in turn, `repeats` times round, so that a noisy machine hurts all alike."""
    found: dict[str, list[dict[str, float]]] = {row: [] for row in rows}
    for row in tqdm(rows * repeats, desc="bench.loader", unit="row", leave=False, dynamic_ncols=True, disable=None):
        found[row].append(in_process(row, setting, seconds))
    return found


def summarise(found: dict[str, list[dict[str, float]]]) -> dict[str, dict[str, float]]:
    """Medians over the repeats, the spread (max - min) of the speed, and the ratios to the limit and to `opencv`."""
    table = {}
    for row, repeats in found.items():
        speeds = [repeat["images_per_second"] for repeat in repeats]
        table[row] = {key: statistics.median(repeat[key] for repeat in repeats) for key in repeats[0]}
        table[row]["spread"] = max(speeds) - min(speeds)
    for facts in table.values():
        if "decode" in table:
            facts["share_of_limit"] = facts["images_per_second"] / table["decode"]["images_per_second"]
        if "opencv" in table:
            facts["times_opencv"] = facts["images_per_second"] / table["opencv"]["images_per_second"]
    return table


def render(table: dict[str, dict[str, float]], setting: Setting) -> str:
    """The table for a terminal."""
    megapixels = setting.augment.crop[0] * setting.augment.crop[1] / 1e6
    width = max(len(TITLES[row]) for row in table)
    head = f"{'':<{width}}  images/s  +-spread     MP/s  of limit  x opencv  CPU ms/image  peak MB"
    lines = [head]
    for row, facts in table.items():
        share, times = facts.get("share_of_limit"), facts.get("times_opencv")
        pixels = "       -" if row == "decode" else f"{facts['images_per_second'] * megapixels:8.1f}"
        lines.append(
            f"{TITLES[row]:<{width}}  {facts['images_per_second']:8.1f}  {facts['spread']:8.1f} {pixels}  "
            + (f"{share:8.2f}  " if share else f"{'-':>8}  ")
            + (f"{times:8.2f}  " if times else f"{'-':>8}  ")
            + f"{1000 * facts['cpu_seconds_per_image']:12.2f}  {facts['peak_mb']:7.0f}"
        )
    return "\n".join(lines)


def make_scenes(folder: Path, size: str, count: int) -> Path:
    """Procedural scenes as shards, for a bench without data of one's own."""
    raw, shards = folder / "raw", folder / "shards"
    ingest = [sys.executable, "-m", "ingest"]
    scenes = ["scenes", str(raw), "--layout", "folder", "--size", size, "--train", str(count), "--val", "1"]
    for arguments in (scenes, ["folder", str(raw), "--spec", str(raw / "dataset.yaml"), "--out", str(shards)]):
        done = subprocess.run([*ingest, *arguments], capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"python -m ingest {' '.join(arguments)} failed:\n{done.stderr[-2000:]}")
    return shards


@click.command(context_settings={"max_content_width": 110})
@click.argument("folder", required=False, metavar="[DIR]")
@click.option("--cfg", "recipe", help="Take crop, augmentation and batch size from a recipe.")
@click.option("--split", default="train", show_default=True)
@click.option("--device", type=click.Choice(["auto", "cpu", "gpu"]), default="auto", show_default=True)
@click.option("--rows", help=f"Comma-separated: {', '.join(ROWS)}.  [default: all]")
@click.option("--batch", type=click.IntRange(1), help="Images a batch.  [default: the recipe's, or 8]")
@click.option("--threads", type=click.IntRange(1), help="Threads or workers of every row.  [default: all cores]")
@click.option("--seconds", type=click.FloatRange(0.1), default=5.0, show_default=True, help="Per row and repeat.")
@click.option("--repeats", type=click.IntRange(1), default=3, show_default=True, help="Rounds; medians are shown.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write every measurement, with provenance.")
def command(
    folder: str | None,
    recipe: str | None,
    split: str,
    device: str,
    rows: str | None,
    batch: int | None,
    threads: int | None,
    seconds: float,
    repeats: int,
    json_path: Path | None,
) -> None:
    """Compare loaders on the same shards, crop and cores.

    DIR is a shard folder; without it the bench makes 500x375 street scenes of its own. Each row runs in a process of
    its own, in turn with the others.
    """
    import torch

    chosen = rows.split(",") if rows else list(ROWS)
    for row in chosen:
        if row not in ROWS:
            raise UserError(f"--rows names {row!r}{nearest(row, ROWS)}")
    if device == "gpu" and not torch.cuda.is_available():
        raise UserError("--device gpu: this machine shows no GPU; use --device cpu")
    place = "gpu" if device == "gpu" or (device == "auto" and torch.cuda.is_available()) else "cpu"
    parsed = config.load(recipe) if recipe else None
    augment = parsed.augment if parsed else Augment()
    with tempfile.TemporaryDirectory() as scratch:
        if folder is None:
            click.echo("no DIR: making 500x375 street scenes")
            folder = str(make_scenes(Path(scratch), "375x500", 64))
        elif remote.is_url(folder):
            folder = str(remote.stage(folder))
        facts = manifest.load(folder).split(split)
        size = batch or (parsed.data.batch_size if parsed else 8)
        if facts.samples < size:
            raise UserError(f"split {split!r} has {facts.samples} samples, fewer than a batch of {size}: lower --batch")
        setting = Setting(folder, split, augment, size, threads or available_threads(), place)
        found = compare(chosen, setting, seconds, repeats)
    table = summarise(found)
    height, width = facts.image_size.get("median", ["?", "?"])
    click.echo(
        f"{manifest.load(folder).name if Path(folder).exists() else 'street scenes'}, median {width}x{height}, "
        f"crop {augment.crop[1]}x{augment.crop[0]}, batch {size}, {setting.threads} threads, {place}; "
        f"medians of {repeats} x {seconds:g} s"
    )
    click.echo(render(table, setting))
    if json_path:
        facts_out: dict[str, Any] = {
            "setting": {"augment": augment.__dict__, "batch": size, "threads": setting.threads, "device": place},
            "data": {"folder": folder, "samples": facts.samples, "image_size": facts.image_size},
            "rows": table,
            "repeats": found,
            "versions": provenance.versions(),
        }
        json_path.parent.mkdir(parents=True, exist_ok=True)
        json_path.write_text(json.dumps(facts_out, indent=1) + "\n")


if __name__ == "__main__":
    run(command, "python -m bench.loader")
