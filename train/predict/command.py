"""`python -m train.predict`: its options. What they set off is in `train.predict.labeling`, which needs torch."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import click

from pipeline.options import bundled
from train.predict.options import Order, inference_options


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
@bundled(Order)
def command(order: Order) -> int:
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
    return import_module("train.predict.labeling").label(order)
