"""`python -m pipeline`: is the stream the same there as here, and what does it look like?"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import click

from ingest.errors import UserError, run
from pipeline.options import bundled

_EPOCH = click.IntRange(0, 2**63 - 1)  # pipeline.plan.MAX_SEED, which is not worth loading numpy for --help


@dataclass(frozen=True)
class StreamOptions:
    """What names a stream."""

    folder: str
    recipe: str | None
    split: str
    epoch: int
    device: str
    overrides: tuple[str, ...]


@dataclass(frozen=True)
class CheckOptions(StreamOptions):
    batches: int
    world: int
    as_json: bool
    against: Path | None


@dataclass(frozen=True)
class ShowOptions(StreamOptions):
    count: int
    out: Path


def _stream_options(command: Callable[..., int | None]) -> Callable[..., int | None]:
    """What names a stream: the shards, the split, the recipe and its overrides."""
    for option in (
        click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]..."),
        click.option(
            "--device",
            type=click.Choice(["cpu", "gpu"]),
            default="cpu",
            show_default=True,
            help="What decodes and warps. Their pixels differ by a few gray levels.",
        ),
        click.option("--epoch", type=_EPOCH, default=0, show_default=True, help="Start at this epoch."),
        click.option("--split", default="train", show_default=True, help="A labeled split."),
        click.option("--cfg", "recipe", help="A recipe file or a shipped recipe's name; without: the defaults."),
        click.argument("folder", metavar="DIR_OR_URL"),
    ):
        command = option(command)
    return command


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
def main() -> None:
    """Look into the stream of training crops that a shard folder and a recipe give.

    \b
    python -m pipeline show shards/camvid --cfg camvid_enet --out crops.png
    python -m pipeline check shards/camvid --cfg camvid_enet --json > here.json
    python -m pipeline check shards/camvid --cfg camvid_enet --against here.json     (on another machine)
    python -m pipeline show '[{path: shards/a}, {path: shards/b, weight: 2}]'        (several, as in data.path)
    """


@main.command(short_help="Digests of the stream, to compare machines by.")
@_stream_options
@click.option("--batches", type=click.IntRange(1), default=8, show_default=True, help="Global batches to make.")
@click.option("--world", type=click.IntRange(1), default=1, show_default=True, help="Ranks to make and put together.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for --against.")
@click.option(
    "--against", type=click.Path(path_type=Path), help="Compare with an earlier --json: exit code 1 if they differ."
)
@bundled(CheckOptions)
def check(options: CheckOptions) -> int:
    """Print digests of the stream: of an epoch's order, and of its first batches, stage by stage.

    The stages are keys, random numbers (draws), geometry (matrices), stored files, images and labels; the first that
    differs between two machines is where to look. On a CPU equal versions give equal digests, bit for bit, for any
    number of ranks (--world 2 data.batch_size=4 is --world 1 data.batch_size=8), threads and prefetched batches.

    \b
    KEY=VALUE changes seed, data.batch_size, data.shuffle_window or a key of augment.
    """
    from ingest.shards import folders, joined
    from pipeline import check as checking
    from pipeline.config import load

    against = options.against
    earlier = _read_json(against) if against else None
    stream = load(options.recipe, options.overrides)
    shards = joined.open_split(folders.parsed(options.folder, "DIR_OR_URL"), options.split)
    device, epoch = _device(options.device), options.epoch
    found = checking.digest(shards, stream, options.batches, world=options.world, epoch=epoch, device=device)
    click.echo(json.dumps(found, indent=1) if options.as_json else checking.table(found))
    if earlier is None:
        return 0
    differences = checking.compare(found, earlier)
    for difference in differences:
        click.echo(f"differs from {against}: {difference}", err=True)
    if not differences:
        both = min(len(found["batches"]), len(earlier["batches"]))
        click.echo(f"equal to {against}: the order of the epoch and {both} batches", err=True)
    return 1 if differences else 0


@main.command(short_help="Augmented crops as a picture.")
@_stream_options
@click.option("-n", "count", type=click.IntRange(1), default=12, show_default=True, help="Crops.")
@click.option("--out", type=click.Path(path_type=Path), default="crops.png", show_default=True, help="The picture.")
@bundled(ShowOptions)
def show(options: ShowOptions) -> None:
    """Draw the first crops of an epoch as the net sees them: image | label | both.

    Each with its key, its magnification, angle, flip and blur. Padding, which the net sees in the mean color and
    labeled 255, is striped in the label.

    \b
    KEY=VALUE changes seed, data.shuffle_window or a key of augment.
    """
    from ingest.shards import folders, joined, pictures
    from pipeline import sheet
    from pipeline.config import load

    out = options.out
    pictures.check_name(out, "--out")
    if not out.parent.is_dir():
        raise UserError(f"{out.parent} does not exist: make the folder, or give another --out")
    stream = load(options.recipe, options.overrides)
    shards = joined.open_split(folders.parsed(options.folder, "DIR_OR_URL"), options.split)
    found = sheet.crops(shards, stream, options.count, options.epoch, _device(options.device))
    pictures.save(sheet.sheet(found, shards.manifest), out)
    click.echo(str(out))


def _device(name: str) -> str:
    """torch's name of the device. UserError when there is none."""
    if name == "cpu":
        return "cpu"
    import torch

    if not torch.cuda.is_available():
        raise UserError("--device gpu: torch finds no GPU here; use --device cpu")
    return "cuda"


def _read_json(path: Path) -> dict:
    try:
        found = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise UserError(
            f"--against {path} does not exist: make it with `pipeline check ... --json > {path}`"
        ) from error
    except (ValueError, RecursionError, IsADirectoryError) as error:
        raise UserError(f"--against {path} is no JSON file ({error})") from error
    if not isinstance(found, dict) or not isinstance(found.get("batches"), list):
        raise UserError(f"--against {path} is no output of `pipeline check --json`")
    return found


if __name__ == "__main__":
    run(main, "python -m pipeline")
