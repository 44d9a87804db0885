"""Prediction on plain image files: index masks in the dataset's palette, and overlays to look at.

python -m train.predict --checkpoint saved/x/y/checkpoints/best.pt --images photos/ --out predictions/
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import click
import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from tqdm import tqdm

from ingest.errors import UserError, run
from train import checkpoint, model, pictures
from train.distributed import ranks

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp"}


def image_files(sources: Sequence[str]) -> list[tuple[Path, Path]]:
    """Files and folders (searched deeply) -> (file, its name relative to the folder it was found in)."""
    found = []
    for source in map(Path, sources):
        if source.is_dir():
            files = sorted(path for path in source.rglob("*") if path.suffix.lower() in SUFFIXES)
            if not files:
                raise UserError(f"{source} holds no images ({', '.join(sorted(SUFFIXES))})")
            found += [(path, path.relative_to(source)) for path in files]
        elif source.is_file():
            found.append((source, Path(source.name)))
        else:
            raise UserError(f"{source} does not exist: give image files or a folder of them")
    return found


def read_image(path: Path) -> np.ndarray:
    """Any image file -> uint8 [H, W, 3], turned upright as EXIF says."""
    try:
        with Image.open(path) as image:
            return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    except (OSError, UnidentifiedImageError, SyntaxError) as error:
        raise UserError(f"{path} is no readable image ({error}): remove or replace it") from error


@torch.inference_mode()
def predict(
    net: torch.nn.Module, files: Sequence[Path], device: torch.device, amp: str = "auto"
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """For each file its image uint8 [H, W, 3] and the predicted class ids uint8 [H, W]."""
    net.eval()
    for path in files:
        image = read_image(path)
        images = torch.from_numpy(np.array(image)[None]).permute(0, 3, 1, 2).to(device)
        with model.autocast(amp, device):
            logits = net(images)
        yield image, logits.argmax(dim=1)[0].to(torch.uint8).cpu().numpy()


def _save_mask(mask: np.ndarray, palette: Sequence[Sequence[int]], path: Path) -> None:
    image = Image.frombytes("P", (mask.shape[1], mask.shape[0]), mask.tobytes())
    image.putpalette([channel for colour in palette for channel in colour])
    image.save(path, bits=8)  # not fewer, as Pillow would for few classes: some readers spread those over 0..255


@click.command()
@click.option("--checkpoint", "path", required=True, help="A .pt file of a run, such as .../checkpoints/best.pt.")
@click.option("--images", required=True, multiple=True, help="An image file or a folder; may be given several times.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder to write to.")
@click.option("--device", default="auto", show_default=True, type=click.Choice(["auto", "cpu", "gpu"]))
@click.option(
    "--amp", type=click.Choice(["auto", "bf16", "fp16", "off"]), help="Autocast.  [default: as trained; off on a CPU]"
)
@click.argument("more", nargs=-1)
def command(path: str, images: tuple[str, ...], out: Path, device: str, amp: str | None, more: tuple[str, ...]) -> None:
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
            amp or model.scoring_amp(state["config"]["train"]["amp"], world.device),
        )
        for name, (image, mask) in zip(names, tqdm(pairs, total=len(names), unit="image", disable=None), strict=True):
            mask_path = (out / "masks" / name).with_suffix(".png")
            overlay_path = (out / "overlays" / name).with_suffix(".jpg")
            mask_path.parent.mkdir(parents=True, exist_ok=True)
            _save_mask(mask, palette, mask_path)
            pictures.save(pictures.overlay(image, pictures.colorize(mask, palette)), overlay_path)
        click.echo(f"{len(names)} images: masks in {out / 'masks'}, overlays in {out / 'overlays'}")


def _distinct(names: list[Path]) -> list[Path]:
    """UserError when two inputs would be written to one output."""
    seen: dict[Path, Path] = {}
    for name in names:
        stem = name.with_suffix("")
        if stem in seen:
            raise UserError(f"{seen[stem]} and {name} would both be written to {stem}.png: predict them separately")
        seen[stem] = name
    return names


if __name__ == "__main__":
    run(command, "python -m train.predict")
