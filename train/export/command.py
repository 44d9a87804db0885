"""`python -m train.export`: its options. What they set off is in `train.export.shipping`, which needs torch."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import click

from pipeline.options import bundled
from train.export.order import Order
from train.predict.options import Size


@click.command(context_settings={"max_content_width": 110})
@click.option("--checkpoint", "path", required=True, help="A .pt file of a run, such as .../checkpoints/best.pt.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="model.onnx or model.pt2.")
@click.option("--argmax", is_flag=True, help="Give class ids, uint8 [N, H, W], in place of logits.")
@click.option("--fp16", is_flag=True, help="Weights and arithmetic in float16.")
@click.option("--int8", is_flag=True, help="8-bit arithmetic, calibrated on the dataset's images (ONNX).")
@click.option(
    "--tolerance",
    type=click.FloatRange(0, 100),
    default=1.0,
    show_default=True,
    help="--int8: refuse where mIoU falls by more points.",
)
@click.option(
    "--calibrate",
    "images",
    type=click.IntRange(1),
    default=64,
    show_default=True,
    help="--int8: images to calibrate and score.",
)
@click.option("--data", help="Shard folder, for real images.  [default: the one it was trained on, where it is there]")
@click.option("--split", default="val", show_default=True, help="Whose images it is checked on.")
@click.option("--size", type=Size(), default="512x512", show_default=True, help="Of noise, where there are no images.")
@click.option("--check/--no-check", "checks", default=True, help="Run the file, and compare it with the net.")
@bundled(Order)
def command(order: Order) -> None:
    """Export a checkpoint to a file that runs without segrail.

    \b
    model.onnx    ONNX, for onnxruntime, TensorRT, OpenVINO...; facts are in its metadata
    model.pt2     torch.export; torch.export.load(...).module(); facts are in its extra file facts.json

    The file takes plain images, uint8 [N, 3, H, W] in RGB, of any batch, height and width, and gives logits
    [N, classes, H, W]; it normalizes by itself. It is run and compared with the net on images of the dataset.
    """
    import_module("train.export.shipping").ship(order)
