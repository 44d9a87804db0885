"""The work of `python -m train.export`, and what is said of the file."""

from __future__ import annotations

import tempfile
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
from train.checkpoints.state import MonitorState, State
from train.export import samples
from train.export.check import check
from train.export.formats import Shipped, check_ending, export
from train.export.order import Order
from train.export.quantize import miou, quantize

_CHECKED = 4  # images that the file is compared with the net on


def ship(order: Order) -> None:
    """Writes the file, runs it, and says what it is."""
    _refuse(order)
    state = checkpoint.load_net(order.path)
    facts, recipe = state["dataset"], config.parse(state["config"])
    shards = samples.open_split(order.data or recipe.data.folders[0].path, order.split, facts)
    if shards is None and order.data:
        ShardSet(order.data, order.split)  # says what is wrong with it
    net = model.from_checkpoint(state)
    images = [image for image, _ in samples.some(shards, _CHECKED)] if shards else _noise(facts["channels"], order.size)
    written = _facts(state, order)
    if order.int8:
        _write_int8(net, written, shards, images[0], order)
    else:
        export(Shipped(net, order.argmax, order.fp16), order.out, written, images[0])
    classes = count(len(facts["classes"]), "class", "classes")
    click.echo(
        f"{order.out}: {recipe.net.name}, {classes} of {facts['name']}, images uint8 [N, {facts['channels']}, H, W] of "
        f"any size, {order.out.stat().st_size / 1e6:.1f} MB"
    )
    if recipe.data.val_size:
        side, pixels = recipe.data.val_side, recipe.data.val_size
        click.echo(f"note: it was trained on scaled images: scale each so that its {side} side has {pixels} pixels")
    if order.checks and not order.int8:
        where = f"{shards.split} images" if shards else "noise: the dataset is not at hand"
        # Weights in float16 are the net's own by now: it is compared with the net as it was trained.
        found = check(model.from_checkpoint(state), order.out, images, order.argmax, order.fp16)
        click.echo(f"{found} ({where})")


def _refuse(order: Order) -> None:
    size = order.size
    check_ending(order.out)
    if not order.out.parent.is_dir():
        raise UserError(f"--out {order.out}: folder {order.out.parent} does not exist: make it, or name another")
    if min(size) < 32:
        raise UserError(f"--size {size[0]}x{size[1]}: expected HEIGHTxWIDTH in pixels, 32 or more each")
    if order.int8 and order.out.suffix != ".onnx":
        raise UserError(f"--int8 is for ONNX: give --out {order.out.with_suffix('.onnx')}")
    if order.int8 and order.fp16:
        raise UserError("--int8 and --fp16 exclude each other: choose one")


def _write_int8(
    net: torch.nn.Module, facts: dict[str, Any], shards: ShardSet | None, image: Tensor, order: Order
) -> None:
    """Says the mIoU before and after; UserError, and no file, where it falls by more than the tolerance."""
    if shards is None or not shards.labeled:
        raise UserError(
            "--int8 is calibrated and scored on labeled images: give --data, a shard folder, and its --split"
        )
    chosen = samples.some(shards, order.images)
    with tempfile.TemporaryDirectory(prefix="segrail-export-") as folder:
        plain, small = Path(folder) / "plain.onnx", Path(folder) / "int8.onnx"
        export(Shipped(net, order.argmax), plain, facts, image)
        quantize(plain, [each for each, _ in chosen], small)
        before, after = (miou(file, chosen, len(facts["classes"])) for file in (plain, small))
        if before is None or after is None:
            raise UserError(f"split {shards.split!r} has no labeled pixel to score --int8 on: give another --split")
        said = f"mIoU {100 * before:.2f}% before, {100 * after:.2f}% after"
        said += f", on {count(len(chosen), 'image')} of {shards.split}"
        if 100 * (before - after) > order.tolerance:
            raise UserError(
                f"--int8 costs {100 * (before - after):.2f} points ({said}), more than --tolerance "
                f"{order.tolerance:g}: calibrate on more images (--calibrate), allow more, or use --fp16"
            )
        small_bytes, plain_bytes = small.stat().st_size, plain.stat().st_size
        atomic.write_bytes(order.out, small.read_bytes())
    click.echo(f"int8: {said}; {plain_bytes / 1e6:.1f} MB before, {small_bytes / 1e6:.1f} MB after")


def _noise(channels: int, size: tuple[int, int]) -> list[Tensor]:
    return [samples.noise(channels, size), samples.noise(channels, (size[0] // 2 + 11, size[1] // 2 + 3), 3)]


def _facts(state: State, order: Order) -> dict[str, Any]:
    """What the file says of itself."""
    facts, recipe = state["dataset"], config.parse(state["config"])
    best = _best(state.get("monitor"))
    number = "float16" if order.fp16 else "int8" if order.int8 else "float32"
    return {
        **{key: facts[key] for key in ("name", "classes", "palette", "channels", "ignore", "mean", "std")},
        "input": "images: uint8 RGB 0..255, NCHW, normalized inside",
        "output": "classes: uint8 class ids, NHW" if order.argmax else "logits: float32, NCHW",
        "arithmetic": number,
        "scale_images_to": {"side": recipe.data.val_side, "pixels": recipe.data.val_size},
        "step": state["step"],
        "best": best,
        "recipe": config.to_yaml(recipe),
    }


def _best(monitor: MonitorState | None) -> dict[str, Any]:
    """The best validation's score, step and mIoU; empty where there was none."""
    if monitor is None or not monitor.get("best"):
        return {}
    return dict(zip((monitor["name"], "step", "miou"), monitor["best"] or (), strict=False))
