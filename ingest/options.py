"""The options that all dataset commands share, and the one way from a raw dataset to its shards."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import os
import re
import shlex
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ingest.errors import UserError, one_line

if TYPE_CHECKING:
    from ingest.sources.raw import RawDataset

_UNITS = {"": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}


class _Bytes(click.ParamType[int]):
    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        hit = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)", value.strip())
        if not hit or hit[2].lower() not in _UNITS or not float(hit[1]):
            self.fail(f"{value!r} is no size: write 256MB, 1GB or a number of bytes")
        return max(1, int(float(hit[1]) * _UNITS[hit[2].lower()]))


class _ImageFormat(click.ParamType[str]):
    name = "format"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        hit = re.fullmatch(r"keep|png|raw|jpeg:(\d+)", value)
        if not hit or (hit[1] and not 1 <= int(hit[1]) <= 100):
            self.fail(f"{value!r} is no image format: write keep, png, raw or jpeg:95 (1 to 100)")
        return str(value)


class _Tile(click.ParamType[tuple[int, int, int]]):
    name = "tile"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int, int]:
        hit = re.fullmatch(r"(\d+)x(\d+)(?:\+(\d+))?", str(value))
        if not hit or not int(hit[1]) or not int(hit[2]) or int(hit[3] or 0) >= min(int(hit[1]), int(hit[2])):
            self.fail(
                f"{value!r} is no tile: write 512x512 or 512x512+64 (height x width + overlap, smaller than both)"
            )
        return int(hit[1]), int(hit[2]), int(hit[3] or 0)


@dataclass(frozen=True)
class Common:
    """What every dataset command is told."""

    src: Path
    out: str | None  # a folder, or a URL for fsspec
    splits: tuple[str, ...]
    workers: int
    dask: str | None
    shard_size: int
    image_format: str
    max_side: int | None
    tile: tuple[int, int, int] | None
    seed: int
    skip_bad: bool
    drop_empty: bool
    resume: bool
    dry_run: bool
    as_json: bool

    def spec_path(self) -> Path:
        """Where a drafted spec goes: beside the output folder, OUT.yaml."""
        from ingest.shards.remote import urls

        if self.out and urls.is_url(self.out):
            return Path(self.out.rstrip("/").rsplit("/", 1)[-1] + ".yaml")
        name = re.sub(r"[^\w-]+", "_", self.src.resolve().name.split(".")[0]).strip("_") or "dataset"
        out = Path(self.out) if self.out else Path("shards") / name
        return out.with_name(out.name + ".yaml")

    def check_out(self, name: str) -> None:
        """Before the source is searched: is the output folder free? UserError says what to do."""
        from ingest import writer
        from ingest.shards.remote import urls

        if self.resume or self.dry_run:
            return
        if self.out and urls.is_url(self.out):
            urls.refuse_existing(self.out)
        else:
            writer.refuse_existing(Path(self.out or Path("shards") / name))

    def ingest(self, raw: RawDataset, words: list[str]) -> None:
        """Writes the shards and reports. `words` name the source, so that the manifest tells how to make it again."""
        from ingest import report, writer
        from ingest.pixels.images import Format
        from ingest.plan import plan
        from ingest.shards.remote import cache, urls
        from ingest.shards.wording import count

        self._look(raw)
        raw = dataclasses.replace(self._scenes(raw), drop_empty=self.drop_empty)
        options = {
            "splits": list(raw.splits),
            "shard_size": self.shard_size,
            "image_format": self.image_format,
            "max_side": self.max_side,
            "tile": list(self.tile) if self.tile else None,
            "seed": self.seed,
            "skip_bad": self.skip_bad,
            "drop_empty": self.drop_empty,
            **raw.options,
        }
        out = self.out or str(Path("shards") / raw.name)
        url = out if urls.is_url(out) else None
        # shards for a URL are made here first, under a name of its own, so that --resume finds them
        folder = Path(out) if url is None else cache.CACHE / "out" / hashlib.sha256(url.encode()).hexdigest()[:16]
        kind, _, quality = self.image_format.partition(":")
        images = Format(kind, int(quality or 0), self.max_side)
        if self.dry_run:
            size = writer.source_bytes_a_shard(raw, folder, images, self.shard_size)
            found = report.found(raw, plan(raw, size, self.seed))
            click.echo(json.dumps(found, indent=1) if self.as_json else report.found_table(found))
            click.echo(f"{out}: nothing was decoded or written (--dry-run)", err=True)
            return
        settings = writer.Settings(
            shard_size=self.shard_size,
            seed=self.seed,
            command=self._command(raw, words),
            options=options,
            workers=self.workers,
            images=images,
            skip_bad=self.skip_bad,
            resume=self.resume,
            dask=self.dask,
            url=url if self.dask else None,
        )
        facts = writer.write(raw, folder, settings)
        if url is not None:
            urls.upload(folder, url)
            shutil.rmtree(folder)
        if self.as_json:
            click.echo(json.dumps(report.as_dict(facts, raw.expected, out), indent=1))
        else:
            click.echo(report.summary(facts, raw.expected))
            click.echo(f"{out}: {count(facts.num_classes, 'class')}; look: python -m ingest show {out} --out sheet.png")

    def _command(self, raw: RawDataset, words: list[str]) -> str:
        """What makes the same shards again; `words` name the source."""
        words = [*words, *(word for split in raw.splits for word in ("--split", split))]
        words += ["--shard-size", str(self.shard_size), "--image-format", self.image_format, "--seed", str(self.seed)]
        words += ["--max-side", str(self.max_side)] if self.max_side else []
        words += ["--tile", "{}x{}+{}".format(*self.tile)] if self.tile else []
        words += ["--skip-bad"] if self.skip_bad else []
        words += ["--drop-empty"] if self.drop_empty else []
        return shlex.join(["python", "-m", "ingest", *words])

    def _scenes(self, raw: RawDataset) -> RawDataset:
        """The dataset as tiles of scenes, where it is one: cut by --tile, chosen bands, or a place on the map."""
        from ingest.pixels.measure import measured
        from ingest.pixels.rasters import Tile
        from ingest.shards.summary import training_split
        from ingest.sources.raw import on_the_map
        from ingest.tiling import tiled

        if self.tile and self.max_side:
            raise UserError("--tile and --max-side do not go together: choose one")
        if self.max_side and not raw.pixels.plain:
            raise UserError(
                "--max-side scales plain pictures, not scenes with `bands` or `range`: cut them with --tile"
            )
        if not self.tile and raw.pixels.plain and (self.max_side or not on_the_map(raw)):
            return raw
        if not self.dry_run:
            training = raw.splits[training_split(raw.splits)]
            raw = dataclasses.replace(
                raw, pixels=measured(raw.pixels, [pair.image for pair in training], self.skip_bad)
            )
        return tiled(raw, Tile(*self.tile) if self.tile else Tile(), self.skip_bad)

    def _look(self, raw: RawDataset) -> None:
        """Says what was concluded from the files; refuses what would train nothing."""
        from ingest.spec import peek

        to_train = not self.splits or any(name.startswith("train") for name in self.splits)
        if to_train and not self.dry_run:  # which decodes nothing; a few images for a test may well show one class
            peek.refuse_one_class(raw, self.skip_bad)
        dark = peek.dark_images(raw)
        for note in [*raw.notes, *([f"warning: {dark}"] if dark else [])]:
            click.echo(one_line(note), err=True)


def ingest_options(command: Callable[..., None]) -> Callable[..., None]:
    """Adds SRC and the common options, handed over as one `common`."""

    @functools.wraps(command)
    def wrapped(**given: Any) -> None:
        common = Common(**{name: given.pop(name) for name in Common.__dataclass_fields__})
        command(common, **given)

    cores = os.cpu_count() or 1
    for option in (
        click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON."),
        click.option("--dry-run", is_flag=True, help="Say what was found, and stop."),
        click.option("--resume", is_flag=True, help="Go on from the finished shards of a killed run."),
        click.option("--skip-bad", is_flag=True, help="Leave out broken samples and list them, instead of stopping."),
        click.option("--drop-empty", is_flag=True, help="Leave out images that show nothing but background."),
        click.option("--seed", type=int, default=0, show_default=True, help="Of the order of the samples."),
        click.option("--max-side", type=click.IntRange(1), metavar="PX", help="Scale larger images down to this."),
        click.option(
            "--tile", type=_Tile(), metavar="HxW[+OVERLAP]", help="Cut images into tiles of that many pixels."
        ),
        click.option(
            "--image-format",
            type=_ImageFormat(),
            default="keep",
            show_default=True,
            help="keep: byte for byte where possible; png: all, packed to be read fast; jpeg:Q: all; raw: as pixels.",
        ),
        click.option("--shard-size", type=_Bytes(), default="256MB", show_default=True, help="Bytes a shard, about."),
        click.option(
            "--dask", metavar="ADDRESS", help="A Dask scheduler (tcp://host:8786) whose workers make the shards."
        ),
        click.option("--workers", type=click.IntRange(1), default=cores, help="Processes.  [default: all cores]"),
        click.option("--split", "splits", multiple=True, help="Only this split; repeat for more."),
        click.option("--out", help="Shard folder, or a URL (s3://, gs://...).  [default: shards/<dataset>]"),
    ):
        wrapped = option(wrapped)
    return click.argument("src", type=click.Path(path_type=Path))(wrapped)
