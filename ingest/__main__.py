"""`python -m ingest`: raw datasets in, shards out. Heavy imports wait until a command needs them."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ingest.errors import UserError, run

if TYPE_CHECKING:
    from ingest.raw import RawDataset

_UNITS = {"": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}
_SCENES = "Write procedural street scenes in a dataset's raw layout."


class _Commands(click.Group):
    """Loads `scenes` (a package of its own) only when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted([*self.commands, "scenes"])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name == "scenes":
            return click.Command("scenes", short_help=_SCENES)
        return super().get_command(ctx, cmd_name)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] == "scenes":
            return "scenes", import_module("ingest.scenes").command, args[1:]
        return super().resolve_command(ctx, args)


class _Bytes(click.ParamType[int]):
    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        hit = re.fullmatch(r"([0-9.]+)\s*([A-Za-z]*)", value.strip())
        if not hit or hit[2].lower() not in _UNITS or not float(hit[1]):
            self.fail(f"{value!r} is no size: write 256MB, 1GB or a number of bytes")
        return max(1, int(float(hit[1]) * _UNITS[hit[2].lower()]))


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
def main() -> None:
    """Turn a raw segmentation dataset into shards for training, check them, look at them.

    \b
    A dataset of your own:   python -m ingest folder SRC --spec my-dataset.yaml
    PASCAL VOC 2012:         python -m ingest voc VOCdevkit/VOC2012
    No data at hand:         python -m ingest scenes raw --layout folder
    Then:                    python -m ingest show shards/<name> --out sheet.png
    """


def _ingest_options(command: Callable[..., None]) -> Callable[..., None]:
    """What all dataset commands share."""
    for option in (
        click.option("--out", type=click.Path(path_type=Path), help="Shard folder.  [default: shards/<dataset>]"),
        click.option("--split", "splits", multiple=True, help="Only this split; repeat for more.  [default: all]"),
        click.option("--shard-size", type=_Bytes(), default="256MB", show_default=True, help="Bytes a shard, about."),
        click.option("--seed", type=int, default=0, show_default=True, help="Of the order of the samples."),
        click.option(
            "--workers", type=click.IntRange(1), default=os.cpu_count(), help="Processes.  [default: all cores]"
        ),
    ):
        command = option(command)
    return click.argument("src", type=click.Path(path_type=Path))(command)


def _ingest(raw: RawDataset, words: list[str], out: Path | None, shard_size: int, seed: int, workers: int) -> None:
    """Writes the shards and reports. `words`: the command that names the source, to be made again from the manifest."""
    from ingest import writer
    from ingest.report import summary

    out = out or Path("shards") / raw.name
    options = {"splits": list(raw.splits), "shard_size": shard_size, "seed": seed}
    words += [word for split in raw.splits for word in ("--split", split)]
    words += ["--shard-size", str(shard_size), "--seed", str(seed)]
    command = shlex.join(["python", "-m", "ingest", *words])
    facts = writer.write(raw, out, shard_size=shard_size, seed=seed, workers=workers, command=command, options=options)
    click.echo(summary(facts, raw.expected))
    click.echo(f"{out}: {facts.num_classes} classes; look: python -m ingest show {out} --out sheet.png")


def _out_is_free(out: Path | None) -> None:
    """Before the source is searched, where the output is named."""
    if out is not None:
        from ingest.writer import refuse_existing

        refuse_existing(out)


@main.command()
@click.option("--spec", required=True, help="A dataset.yaml, or the name of a shipped one (camvid).")
@_ingest_options
def folder(
    src: Path, spec: str, out: Path | None, splits: tuple[str, ...], shard_size: int, seed: int, workers: int
) -> None:
    """Ingest a folder of images and masks, described by a spec: classes, palette, ids, and globs per split.

    ingest/specs/camvid.yaml is a commented example.
    """
    from ingest.datasets import folder as adapter

    loaded = adapter.load_spec(spec)
    out = out or Path("shards") / loaded.name
    _out_is_free(out)
    raw = adapter.find(src, loaded, splits)
    _ingest(raw, ["folder", str(src), "--spec", spec], out, shard_size, seed, workers)


@main.command()
@_ingest_options
def voc(src: Path, out: Path | None, splits: tuple[str, ...], shard_size: int, seed: int, workers: int) -> None:
    """Ingest PASCAL VOC 2012: SRC is VOC2012, VOCdevkit or a folder above."""
    from ingest.datasets import voc as adapter

    out = out or Path("shards") / adapter.NAME
    _out_is_free(out)
    raw = adapter.find(src, splits)
    _ingest(raw, ["voc", str(src)], out, shard_size, seed, workers)


@main.command()
@click.argument("folder", type=click.Path(path_type=Path))
def verify(folder: Path) -> None:
    """Check every byte of a shard folder against its dataset.json."""
    from ingest.verify import verify as check

    facts = check(folder)
    shards = sum(len(split.shards) for split in facts.splits.values())
    samples = sum(split.samples for split in facts.splits.values())
    click.echo(f"{folder}: {shards} shards with {samples:,} samples are whole and as ingested")


@main.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--split", default="train", show_default=True)
@click.option("-n", "count", type=click.IntRange(1), default=16, show_default=True, help="Samples.")
@click.option("--out", type=click.Path(path_type=Path), default="sheet.png", show_default=True, help="The picture.")
def show(folder: Path, split: str, count: int, out: Path) -> None:
    """Draw a contact sheet: images, their labels in colours, a legend."""
    from ingest.show import sheet

    if not out.parent.is_dir():
        raise UserError(f"{out.parent} does not exist: make the folder, or give another --out")
    sheet(folder, split, count).save(out)
    click.echo(str(out))


if __name__ == "__main__":
    run(main, "python -m ingest")
