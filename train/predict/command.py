"""`python -m train.predict`: options, and the files that are written."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from PIL import Image
from tqdm.auto import tqdm

from ingest.errors import UserError
from ingest.shards import pictures
from ingest.shards.pictures import Array
from ingest.shards.wording import count
from train import model
from train.checkpoints import checkpoint
from train.distributed import ranks
from train.predict.files import image_files, predict
from train.predict.options import Asked, inference, inference_options


def _save_mask(mask: np.ndarray, palette: Sequence[Sequence[int]], path: Path) -> None:
    image = Image.frombytes("P", (mask.shape[1], mask.shape[0]), mask.tobytes())
    image.putpalette([channel for color in palette for channel in color])
    image.save(path, bits=8)  # not fewer, as Pillow would for few classes: some readers spread those over 0..255


def _overlay(image: Array, mask: Array, facts: dict[str, Any]) -> Array:
    """Classes laid over the image, and below it a legend of those that it shows."""
    classes, palette = facts["classes"], facts["palette"]
    blend = pictures.overlay(image, pictures.colorize(mask, palette))
    counts = np.bincount(mask.ravel(), minlength=len(classes)).tolist()
    shown = [c for c, pixels in enumerate(counts) if pixels]
    entries = pictures.class_entries(
        [classes[c] for c in shown], [palette[c] for c in shown], [counts[c] for c in shown], shares=True
    )
    return pictures.with_legend(blend, entries)


@click.command()
@click.option("--checkpoint", "path", required=True, help="A .pt file of a run, such as .../checkpoints/best.pt.")
@click.option("--images", required=True, multiple=True, help="An image file or a folder; may be given several times.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder to write to.")
@click.option("--device", default="auto", show_default=True, type=click.Choice(["auto", "cpu", "gpu"]))
@inference_options(["whole", "sliding"], "whole")
@click.argument("more", nargs=-1)
def command(path: str, images: tuple[str, ...], out: Path, device: str, how: Asked, more: tuple[str, ...]) -> None:
    """Label plain image files with a checkpoint.

    Writes OUT/masks/NAME.png, whose pixel values are class ids shown in the dataset's palette, and
    OUT/overlays/NAME.jpg, the image with the classes laid over it. Folders inside a folder of images are kept.
    """
    with ranks(device) as world:
        state = checkpoint.load_net(path, world.device)
        if state["dataset"]["channels"] != 3:
            raise UserError(f"{path} takes {state['dataset']['channels']} channels; plain image files have 3")
        found = image_files([*images, *more])
        names = _distinct([name for _, name in found])
        net = model.from_checkpoint(state).to(world.device).to(memory_format=torch.channels_last)
        palette = state["dataset"]["palette"]
        pairs = predict(
            net,
            [file for file, _ in found],
            world.device,
            inference(state, world.device, how),
        )
        for name, (image, mask) in zip(names, tqdm(pairs, total=len(names), unit="image", disable=None), strict=True):
            mask_path = (out / "masks" / name).with_suffix(".png")
            overlay_path = (out / "overlays" / name).with_suffix(".jpg")
            mask_path.parent.mkdir(parents=True, exist_ok=True)
            _save_mask(mask, palette, mask_path)
            overlay_path.parent.mkdir(parents=True, exist_ok=True)
            pictures.save(_overlay(image, mask, state["dataset"]), overlay_path)
        click.echo(f"{count(len(names), 'image')}: masks in {out / 'masks'}, overlays in {out / 'overlays'}")


def _distinct(names: list[Path]) -> list[Path]:
    """UserError when two inputs would be written to one output."""
    seen: dict[Path, Path] = {}
    for name in names:
        stem = name.with_suffix("")
        if stem in seen:
            raise UserError(f"{seen[stem]} and {name} would both be written to {stem}.png: predict them separately")
        seen[stem] = name
    return names
