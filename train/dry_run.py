"""`python -m train --cfg RECIPE --dry-run`: the whole loop, two steps long, on procedural scenes.

The scenes stand in for the recipe's dataset: drawn streets with its classes and channels, so that the net has the very
head, and the loss the very class weights, that training will have. What only the real data can show (a wrong path
aside) is its accuracy.
"""

from __future__ import annotations

import copy
import dataclasses
import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
import tifffile
import yaml
from PIL import Image

from ingest.errors import UserError, nearest
from ingest.shards import manifest, wording
from ingest.shards.reader import ShardSet
from pipeline import balance
from train import build, loop
from train.config import Recipe
from train.distributed import Ranks, joined

STEPS = 2
CPU_SIDE = 96  # longer side of a CPU's crops and scenes, pixels: seconds, not minutes, for the largest net
CPU_BATCH = 2  # batch norm needs two values a channel where a net pools the image to one

# what is drawn and how it is ingested: `python -m ingest scenes --layout LAYOUT`, `python -m ingest COMMAND`
OFFICIAL = {
    "voc": ("voc", "voc"),
    "cityscapes": ("cityscapes", "cityscapes"),
    "ade20k": ("ade20k", "ade20k"),
    "cocostuff": ("cocostuff164k", "cocostuff"),
}
# Classes of datasets that are no more than a spec, such as camvid.
SPECS = Path(manifest.__file__).parent.parent / "specs"


@dataclass(frozen=True)
class StandIn:
    """What the drawn dataset is to be like. No classes: those that its layout has by itself."""

    name: str
    classes: list[str] = dataclasses.field(default_factory=list)
    channels: int = 3


def names() -> list[str]:
    """What --stand-in can be."""
    return sorted([*OFFICIAL, "scenes", *(file.stem for file in SPECS.glob("*.yaml"))])


def find_stand_in(recipe: Recipe, asked: str | None = None) -> StandIn:
    """The dataset to draw: the one asked for, else the one at data.path, else the one that data.path is named after.

    shards/voc and shards/voc_aug are both named after voc. UserError where none of this says which.
    """
    path = recipe.data.folders[0].path  # of several the first: they have the same classes
    folder = Path(path)
    if asked is None and path and (folder / "dataset.json").is_file():
        facts = manifest.load(folder)
        for split in filter(None, (recipe.data.train, recipe.data.val)):
            facts.split(split)  # its own error names the splits there are
        return StandIn(facts.name, facts.classes, facts.channels)
    known = names()
    if asked is None:
        asked = next((name for name in known if folder.name.startswith(name)), None)
        if asked is None:
            raise UserError(
                f"data.path = {path!r} holds no dataset.json, nor is it named after a known dataset: "
                f"ingest the dataset first, or say which classes to draw: --stand-in {'|'.join(known)}"
            )
    if asked not in known:
        raise UserError(f"--stand-in {asked!r} is no dataset that can be drawn{nearest(asked, known)}")
    spec = SPECS / f"{asked}.yaml"
    return StandIn(asked, yaml.safe_load(spec.read_text())["classes"] if spec.is_file() else [])


def draw(stand_in: StandIn, folder: Path, size: tuple[int, int], train: int, val: int) -> Path:
    """Draws and ingests the stand-in; returns its shard folder, with splits `train` and `val`. size: height, width."""
    raw, shards = folder / "raw", folder / "shards"
    layout, command = OFFICIAL.get(stand_in.name, ("", "")) if not stand_in.classes else ("", "")
    counts = ["--size", f"{size[0]}x{size[1]}", "--train", str(train), "--val", str(val)]
    _ingest("scenes", str(raw), "--layout", layout or "folder", *counts)
    if command:
        _ingest(command, str(raw), "--out", str(shards))
    else:
        if stand_in.classes:
            _respecify(raw, stand_in)
        _ingest("folder", str(raw), "--spec", str(raw / "dataset.yaml"), "--out", str(shards))
    return shards


def _respecify(raw: Path, stand_in: StandIn) -> None:
    """Gives drawn scenes the stand-in's classes, by its spec, and its number of channels."""
    spec_file = raw / "dataset.yaml"
    drawn = yaml.safe_load(spec_file.read_text())
    classes = stand_in.classes
    spec = {
        "name": stand_in.name,
        "classes": classes,
        # few classes share the drawn ones out among them, the last of many are never shown
        "ids": {number: classes[number % len(classes)] for number in range(len(drawn["classes"]))},
        "ignore": drawn["ignore"],
        "splits": drawn["splits"],
    }
    if stand_in.channels != 3:
        spec["bands"] = list(range(1, stand_in.channels + 1))
        for file in sorted(raw.glob("images/*/*.jpg")):
            with Image.open(file) as image:
                rgb = np.asarray(image)
            tifffile.imwrite(
                file.with_suffix(".tif"),
                np.ascontiguousarray(rgb[..., np.arange(stand_in.channels) % 3].transpose(2, 0, 1)),
                planarconfig="separate",
                photometric="minisblack",
            )
        for globs in spec["splits"].values():
            globs["images"] = globs["images"].replace(".jpg", ".tif")
    spec_file.write_text(yaml.safe_dump(spec, sort_keys=False))


def _ingest(*arguments: str) -> None:
    """`python -m ingest ...`, its output kept back. UserError with its last line where it fails (a full disk, say)."""
    done = subprocess.run([sys.executable, "-m", "ingest", *arguments], capture_output=True, text=True)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no message"])[-1].removeprefix("error: ")
        raise UserError(f"the stand-in could not be drawn (python -m ingest {arguments[0]}): {reason}")


def fit(recipe: Recipe, on_gpu: bool) -> tuple[Recipe, list[str]]:
    """The recipe as it is dry-run, and what was changed for it, as overrides with their reasons.

    On a GPU crop, batch and everything else stay, so that what fits in memory here fits in training.
    """
    recipe, changes = copy.deepcopy(recipe), []
    if recipe.net.pretrained and not recipe.net.backbone_weights:
        recipe.net.pretrained = False
        changes.append("net.pretrained=false (no download)")
    if not on_gpu:
        crop = recipe.augment.crop
        scale = min(1.0, CPU_SIDE / max(crop))
        if scale < 1:
            small = (max(32, round(crop[0] * scale)), max(32, round(crop[1] * scale)))
            base = round(recipe.augment.base_size * scale)
            longest = round(recipe.augment.longest * scale)
            recipe.augment = dataclasses.replace(recipe.augment, crop=small, base_size=base, longest=longest)
            changes.append(f"augment.crop={list(small)} instead of {list(crop)}")
        if recipe.data.batch_size > CPU_BATCH:
            changes.append(f"data.batch_size={CPU_BATCH} instead of {recipe.data.batch_size}")
            recipe.data.batch_size = CPU_BATCH
        if recipe.train.compile:
            recipe.train.compile = False
            changes.append("train.compile=false (takes minutes on a CPU)")
    recipe.train.steps, recipe.train.epochs = STEPS, 0
    recipe.train.log_every, recipe.train.val_every_steps = 1, STEPS
    return recipe, changes


def dry_run(recipe: Recipe, ranks: Ranks, shards: Path, folder: Path) -> str:
    """Trains `fit`'s recipe on the stand-in's shards, and says in a line what that took. folder: for the run."""
    recipe = copy.deepcopy(recipe)
    recipe.data.path, recipe.data.train, recipe.data.val_path = str(shards), "train", ""
    recipe.data.val = "val" if recipe.data.val else ""
    unseen = balance.unseen(ShardSet(shards, "train"), recipe.data.balance)  # a few scenes happen not to show all
    recipe.data.balance = {name: share for name, share in recipe.data.balance.items() if name not in unseen}
    run = build.run(recipe, ranks, folder)
    summary = loop.train(run)
    if summary.step < STEPS or not ranks.is_main:
        return ""
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    last = [line for line in lines if line["kind"] == "train"][-1]
    parameters = [p.numel() for p in run.net.parameters()]
    trained = [p.numel() for p in run.net.parameters() if p.requires_grad]
    size = (folder / "checkpoints" / "last.pt").stat().st_size
    frozen = f" ({sum(trained) / 1e6:.2f} M trained)" if len(trained) < len(parameters) else ""
    validated = f", {wording.count(summary.last.images, 'image')} validated" if summary.last else ", no validation"
    return (
        f"it runs: {recipe.net.name}, {sum(parameters) / 1e6:.2f} M parameters{frozen}, "
        f"{len(summary.classes)} classes; {STEPS} steps, the last in {last['seconds_per_step']:.2f} s{validated}, "
        f"checkpoint {size / 1e6:.0f} MB, peak memory {last['memory_gb']:.1f} GB on the {ranks.device.type}"
        + (f"; left out of data.balance, since no scene here shows it: {', '.join(unseen)}" if unseen else "")
    )


def run(recipe: Recipe, asked: str | None) -> int:
    """The command: stand-in, training, report. Nothing is left behind. The exit code."""
    stand_in = find_stand_in(recipe, asked)
    with (
        joined(recipe.train.device, recipe.train.rank_timeout, "train.device=") as ranks,
        tempfile.TemporaryDirectory(prefix="segrail-dry-run-") as scratch,
    ):
        on_gpu = ranks.device.type == "cuda"
        small, changes = fit(recipe, on_gpu)
        size = small.augment.crop if on_gpu else (CPU_SIDE * 3 // 4, CPU_SIDE)
        count = small.data.batch_size * ranks.count
        if ranks.is_main:
            click.echo(
                f"dry run of {recipe.name}: {STEPS} steps and a validation on {count} + {ranks.count} procedural "
                f"scenes of {size[0]}x{size[1]} pixels with the classes of {stand_in.name}"
            )
            click.echo("  changed for it: " + ("; ".join(changes) or "nothing but the number of steps"))
            draw(stand_in, Path(scratch), size, count, ranks.count)
        folder = Path(ranks.broadcast(scratch))  # the main rank's, so one machine only
        report = dry_run(small, ranks, folder / "shards", folder / "run")
        if report:
            click.echo(report)
        ranks.any(False)  # the main rank removes the folder when all are done with it
    return 0 if report or not ranks.is_main else 1
