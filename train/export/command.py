"""`python -m train.export`: options, and what is told of the file."""

from __future__ import annotations

import re
from pathlib import Path

import click

from ingest.errors import UserError, nearest
from train import model
from train.checkpoints import checkpoint
from train.export.check import check
from train.export.formats import FORMATS, export


def _size(_context: click.Context, _option: click.Parameter, value: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d+)x(\d+)", value)
    if not match or min(int(match[1]), int(match[2])) < 32:
        raise UserError(f"--size {value!r}: expected HEIGHTxWIDTH in pixels, 32 or more each, such as 512x1024")
    return int(match[1]), int(match[2])


@click.command()
@click.option("--checkpoint", "path", required=True, help="A .pt file of a run, such as .../checkpoints/best.pt.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="model.onnx, model.pt2 or model.ts.")
@click.option(
    "--size",
    callback=_size,
    default="512x512",
    show_default=True,
    metavar="HxW",
    help="Of the image it is traced with.",
)
@click.option("--check", "checks", is_flag=True, help="Run the file too, and compare it with the net.")
def command(path: str, out: Path, size: tuple[int, int], checks: bool) -> None:
    """Export a checkpoint to a file that runs without segrail.

    \b
    model.onnx    ONNX, for onnxruntime, TensorRT, OpenVINO...; classes and palette are in its metadata
    model.pt2     torch.export; torch.export.load(...).module()
    model.ts      TorchScript; torch.jit.load(...); fixed to --size

    The file takes plain images, uint8 [N, 3, H, W] in RGB, and gives logits [N, classes, H, W]; it normalizes by
    itself. ONNX and .pt2 take any batch, height and width.
    """
    if out.suffix not in FORMATS:
        raise UserError(f"--out {out}: the ending says the format{nearest(out.suffix, FORMATS)}")
    if not out.parent.is_dir():
        raise UserError(f"--out {out}: folder {out.parent} does not exist: make it, or name another")
    state = checkpoint.load_net(path)
    facts = state["dataset"]
    net = model.from_checkpoint(state)
    export(net, out, facts, size)
    sizes = "any size" if out.suffix != ".ts" else f"{size[0]}x{size[1]}"
    click.echo(
        f"{out}: {state['config']['net']['name']}, {len(facts['classes'])} classes of {facts['name']}, images uint8 "
        f"[N, {facts['channels']}, H, W] of {sizes}, {out.stat().st_size / 1e6:.1f} MB"
    )
    if checks:
        click.echo(check(net, out, facts["channels"], size))
