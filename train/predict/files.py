"""Prediction on plain image files: index masks in the dataset's palette, and overlays to look at.

python -m train.predict --checkpoint saved/x/y/checkpoints/best.pt --images photos/ --out predictions/
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError

from ingest.errors import UserError
from train.predict.windows import Inference, segment

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
            if image.mode.startswith("I") or image.mode == "F":
                raise UserError(
                    f"{path} holds more than 8 bits a channel ({image.mode}), and this net was trained on 8-bit RGB: "
                    "ingest it with `range` in a spec, or convert it to 8 bits as the training images were"
                )
            return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    except (OSError, UnidentifiedImageError, SyntaxError) as error:
        raise UserError(f"{path} is no readable image ({error}): remove or replace it") from error


@torch.inference_mode()
def predict(
    net: torch.nn.Module, files: Sequence[Path], device: torch.device, how: Inference
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """For each file its image uint8 [H, W, 3] and the predicted class ids uint8 [H, W]."""
    net.eval()
    for path in files:
        image = read_image(path)
        images = torch.from_numpy(np.array(image)[None]).permute(0, 3, 1, 2).to(device)
        yield image, segment(net, images, how).argmax(dim=1)[0].to(torch.uint8).cpu().numpy()
