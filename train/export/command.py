"""`python -m train.export`: options, and what is said of the file."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import torch
from torch import Tensor

from ingest.errors import UserError
from ingest.shards import atomic
from ingest.shards.reader import ShardSet
from ingest.shards.wording import count
from train import config, model
from train.checkpoints import checkpoint
from train.export import samples
from train.export.check import check
from train.export.formats import Shipped, check_ending, export
from train.export.quantize import miou, quantize
from train.predict.options import Size

_CHECKED = 4  # images that the file is compared with the net on


@dataclass(frozen=True)
class _Asked:
    """What the file is to be."""

    out: Path
    argmax: bool
    fp16: bool
    int8: bool
    checks: bool
    tolerance: float
    """Points of mIoU that int8 may cost."""
    images: int
    """That int8 is calibrated and scored on."""


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
    "--calibrate", type=click.IntRange(1), default=64, show_default=True, help="--int8: images to calibrate and score."
)
@click.option("--data", help="Shard folder, for real images.  [default: the one it was trained on, where it is there]")
@click.option("--split", default="val", show_default=True, help="Whose images it is checked on.")
@click.option("--size", type=Size(), default="512x512", show_default=True, help="Of noise, where there are no images.")
@click.option("--check/--no-check", "checks", default=True, help="Run the file, and compare it with the net.")
def command(
    path: str,
    out: Path,
    argmax: bool,
    fp16: bool,
    int8: bool,
    tolerance: float,
    calibrate: int,
    data: str | None,
    split: str,
    size: tuple[int, int],
    checks: bool,
) -> None:
    """Export a checkpoint to a file that runs without segrail.

    \b
    model.onnx    ONNX, for onnxruntime, TensorRT, OpenVINO...; facts are in its metadata
    model.pt2     torch.export; torch.export.load(...).module(); facts are in its extra file facts.json

    The file takes plain images, uint8 [N, 3, H, W] in RGB, of any batch, height and width, and gives logits
    [N, classes, H, W]; it normalizes by itself. It is run and compared with the net on images of the dataset.
    """
    asked = _Asked(out, argmax, fp16, int8, checks, tolerance, calibrate)
    _refuse(asked, size)
    state = checkpoint.load_net(path)
    facts, recipe = state["dataset"], config.parse(state["config"])
    shards = samples.open_split(data or recipe.data.path, split, facts)
    if shards is None and data:
        ShardSet(data, split)  # says what is wrong with it
    net = model.from_checkpoint(state)
    images = [image for image, _ in samples.some(shards, _CHECKED)] if shards else _noise(facts["channels"], size)
    written = _facts(dict(state), asked)
    if int8:
        _write_int8(net, written, shards, images[0], asked)
    else:
        export(Shipped(net, argmax, fp16), out, written, images[0])
    classes = count(len(facts["classes"]), "class", "classes")
    click.echo(
        f"{out}: {recipe.net.name}, {classes} of {facts['name']}, images uint8 [N, {facts['channels']}, H, W] of any "
        f"size, {out.stat().st_size / 1e6:.1f} MB"
    )
    if recipe.data.val_size:
        side, pixels = recipe.data.val_side, recipe.data.val_size
        click.echo(f"note: it was trained on scaled images: scale each so that its {side} side has {pixels} pixels")
    if checks and not int8:
        where = f"{shards.split} images" if shards else "noise: the dataset is not at hand"
        # Weights in float16 are the net's own by now: it is compared with the net as it was trained.
        click.echo(f"{check(model.from_checkpoint(state), out, images, argmax, fp16)} ({where})")


def _refuse(asked: _Asked, size: tuple[int, int]) -> None:
    check_ending(asked.out)
    if not asked.out.parent.is_dir():
        raise UserError(f"--out {asked.out}: folder {asked.out.parent} does not exist: make it, or name another")
    if min(size) < 32:
        raise UserError(f"--size {size[0]}x{size[1]}: expected HEIGHTxWIDTH in pixels, 32 or more each")
    if asked.int8 and asked.out.suffix != ".onnx":
        raise UserError(f"--int8 is for ONNX: give --out {asked.out.with_suffix('.onnx')}")
    if asked.int8 and asked.fp16:
        raise UserError("--int8 and --fp16 exclude each other: choose one")


def _write_int8(
    net: torch.nn.Module, facts: dict[str, Any], shards: ShardSet | None, image: Tensor, asked: _Asked
) -> None:
    """Says the mIoU before and after; UserError, and no file, where it falls by more than the tolerance."""
    if shards is None or not shards.labeled:
        raise UserError(
            "--int8 is calibrated and scored on labeled images: give --data, a shard folder, and its --split"
        )
    chosen = samples.some(shards, asked.images)
    with tempfile.TemporaryDirectory(prefix="segrail-export-") as folder:
        plain, small = Path(folder) / "plain.onnx", Path(folder) / "int8.onnx"
        export(Shipped(net, asked.argmax), plain, facts, image)
        quantize(plain, [each for each, _ in chosen], small)
        before, after = (miou(file, chosen, len(facts["classes"])) for file in (plain, small))
        if before is None or after is None:
            raise UserError(f"split {shards.split!r} has no labeled pixel to score --int8 on: give another --split")
        said = f"mIoU {100 * before:.2f}% before, {100 * after:.2f}% after"
        said += f", on {count(len(chosen), 'image')} of {shards.split}"
        if 100 * (before - after) > asked.tolerance:
            raise UserError(
                f"--int8 costs {100 * (before - after):.2f} points ({said}), more than --tolerance "
                f"{asked.tolerance:g}: calibrate on more images (--calibrate), allow more, or use --fp16"
            )
        small_bytes, plain_bytes = small.stat().st_size, plain.stat().st_size
        atomic.write_bytes(asked.out, small.read_bytes())
    click.echo(f"int8: {said}; {plain_bytes / 1e6:.1f} MB before, {small_bytes / 1e6:.1f} MB after")


def _noise(channels: int, size: tuple[int, int]) -> list[Tensor]:
    return [samples.noise(channels, size), samples.noise(channels, (size[0] // 2 + 11, size[1] // 2 + 3), 3)]


def _facts(state: dict[str, Any], asked: _Asked) -> dict[str, Any]:
    """What the file says of itself."""
    facts, recipe = state["dataset"], config.parse(state["config"])
    monitor = state.get("monitor") or {}
    number = "float16" if asked.fp16 else "int8" if asked.int8 else "float32"
    return {
        **{key: facts[key] for key in ("name", "classes", "palette", "channels", "ignore", "mean", "std")},
        "input": "images: uint8 RGB 0..255, NCHW, normalized inside",
        "output": "classes: uint8 class ids, NHW" if asked.argmax else "logits: float32, NCHW",
        "arithmetic": number,
        "scale_images_to": {"side": recipe.data.val_side, "pixels": recipe.data.val_size},
        "step": state["step"],
        "best": dict(zip((monitor["name"], "step", "miou"), monitor["best"], strict=False))
        if monitor.get("best")
        else {},
        "recipe": config.to_yaml(recipe),
    }
