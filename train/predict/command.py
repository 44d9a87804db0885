"""`python -m train.predict`: options, and what is told at the end."""

from __future__ import annotations

from pathlib import Path

import click
import torch

from ingest.shards.wording import count
from train import backends, config, model
from train.checkpoints import checkpoint
from train.distributed import Ranks, ranks
from train.predict import outlines
from train.predict.inputs import find
from train.predict.options import Asked, inference, inference_options
from train.predict.outputs import Output
from train.predict.raw import Reader
from train.predict.run import Done, run
from train.predict.scene import Labeler


@click.command(context_settings={"max_content_width": 110})
@click.option("--checkpoint", "path", required=True, help="A .pt file of a run, such as .../checkpoints/best.pt.")
@click.option(
    "--images",
    required=True,
    multiple=True,
    help="An image, a folder, a pattern in quotes, a video, or a shard folder; may be given several times.",
)
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder to write to.")
@click.option("--split", help="Of shard folders.  [default: all]")
@inference_options(["auto", "whole", "sliding"], "auto")
@click.option("--ids", type=click.Choice(["train", "raw"]), default="train", show_default=True, help="Values of masks.")
@click.option(
    "--overlay",
    type=click.FloatRange(0, 1),
    default=0.55,
    show_default=True,
    help="Opacity of the classes over the image; 0: write no overlays.",
)
@click.option("--probabilities", is_flag=True, help="Write every class's probability, float16 [K, H, W], as .npy.")
@click.option("--polygons", type=click.Choice(["geojson", "coco"]), help="Write outlines too.")
@click.option("--device", default="auto", show_default=True, type=click.Choice(["auto", "cpu", "gpu"]))
@click.argument("more", nargs=-1)
def command(
    path: str,
    images: tuple[str, ...],
    out: Path,
    split: str | None,
    ids: str,
    overlay: float,
    probabilities: bool,
    polygons: str | None,
    device: str,
    more: tuple[str, ...],
    how: Asked,
) -> int:
    """Label images, scenes and videos with a checkpoint.

    \b
    OUT/masks/NAME.png       values are class ids, shown in the dataset's palette
             /NAME.tif       of a file with a place on the map: with the same CRS and transform
    OUT/overlays/NAME.jpg    the image with the classes laid over it, and their shares
    OUT/videos/NAME.mp4      likewise of a video
    OUT/probabilities/NAME.npy, OUT/polygons/NAME.geojson, OUT/polygons.json (COCO)

    Folders inside a folder of images are kept. Files of any depth and number of bands are read by the recipe that
    ingest applied to the training images. Images of more than 6 million pixels are done in windows, TIFFs (with the
    `geo` extra) read by region: an interrupted one goes on where it stopped. Under torchrun the ranks share the files.
    A file that fails is listed at the end, exit code 1; the others are done.
    """
    with ranks(device) as world:
        state = checkpoint.load_net(path, world.device)
        facts = state["dataset"]
        recipe = config.parse(state["config"])
        items = find([*images, *more], split)
        output = Output.of(dict(facts), out, overlay, (probabilities, polygons, ids))
        backends.set_tf32(recipe.train.tf32, world.device)
        net = model.from_checkpoint(state).to(world.device).to(memory_format=torch.channels_last)
        method = inference(state, world.device, how)
        named = f"{Path(path).resolve()} step {state['step']} {Path(path).stat().st_mtime_ns}"
        labeler = Labeler(net, world.device, method, recipe.augment.crop, len(facts["classes"]), named)
        reader = Reader.of(dict(facts))
        auto = how.mode in (None, "auto")
        mine = items[world.rank :: world.world]
        done = run(mine, labeler, reader, output, auto, quiet=not world.is_main)
        return _tell(world.gather(done), world, output)


def _tell(parts: list[Done], world: Ranks, output: Output) -> int:
    """Says what was written and what was not; the exit code."""
    failed = sorted(pair for part in parts for pair in part.failed)
    if not world.is_main:
        return 1 if failed else 0
    if output.polygons == "coco":
        annotated = {name: found for part in parts for name, found in part.annotations.items()}
        outlines.write_coco(output.folder / "polygons.json", annotated, list(output.classes))
    written = [
        name for name in ("masks", "overlays", "videos", "probabilities", "polygons") if (output.folder / name).is_dir()
    ]
    click.echo(
        f"{count(sum(part.written for part in parts), 'file')} labeled: {output.folder}/{{{', '.join(written)}}}"
    )
    if failed:
        click.echo(f"{count(len(failed), 'file')} failed:", err=True)
        for _, reason in failed:
            click.echo(f"  {reason}", err=True)
    return 1 if failed else 0
