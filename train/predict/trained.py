"""A trained net for notebooks and scripts: `train.load(checkpoint)`."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ingest.errors import UserError
from ingest.shards.manifest import IGNORE
from pipeline import checks
from train import backends, config, model
from train.checkpoints import checkpoint
from train.checkpoints.state import State
from train.distributed import chosen_device
from train.predict import depth, scene
from train.predict.method import inference
from train.predict.options import Asked
from train.predict.raw import Reader
from train.predict.scene import Labeler

Array = NDArray[np.uint8]


class Trained:
    """A checkpoint's net on its device, and what it was trained on. It labels images as `train.predict` does."""

    def __init__(self, state: State, device: torch.device) -> None:
        facts, recipe = state["dataset"], config.parse(state["config"])
        self.classes: list[str] = list(facts["classes"])
        """Names, by class id."""
        self.palette: list[tuple[int, int, int]] = [(r, g, b) for r, g, b in facts["palette"]]
        """RGB, by class id."""
        self.net = model.from_checkpoint(state).to(device).to(memory_format=torch.channels_last)
        """uint8 images [N, C, H, W] -> logits [N, K, H, W]; in eval mode."""
        backends.set_tf32(recipe.train.tf32, device)
        how = inference(state, device, Asked(None, None, None, (1.0,), False, None))
        self._labeler = Labeler(self.net, device, how, recipe.augment.crop, len(self.classes), "")
        self._reader = Reader.of(facts)

    def predict(self, image: str | Path | Array) -> Array:
        """Class ids, uint8 [H, W]; 255 where the image has no data.

        image: a file, read as ingest read the training images; or pixels as the net was trained on, uint8 [H, W, C].
        Images of more than 6 million pixels are done in windows. UserError for what cannot be read or does not fit.
        """
        pixels, valid = self._pixels(image)
        how = self._labeler.method((pixels.shape[0], pixels.shape[1]), auto=True)
        mask, _ = scene.whole(self._labeler, pixels, how, probabilities=False)
        return mask if valid is None else np.where(valid, mask, np.uint8(IGNORE))

    def _pixels(self, image: str | Path | Array) -> tuple[Array, NDArray[np.bool_] | None]:
        if isinstance(image, (str, Path)):
            read = self._reader.read(Path(image))
            if read.largest is not None:
                warnings.warn(depth.note([read.largest]), stacklevel=3)
            return read.pixels, read.valid
        pixels = np.asarray(image)
        if pixels.dtype != np.uint8 or pixels.ndim != 3 or 0 in pixels.shape:
            raise UserError(
                f"an image of {pixels.dtype} {list(pixels.shape)}: expected uint8 [height, width, channels], or a path"
            )
        self._reader.check(pixels.shape[2], "the image")
        return np.ascontiguousarray(pixels), None


def load(path: str | Path, device: str = "auto") -> Trained:
    """See `train.load`."""
    checks.one_of("device", device, ["auto", "cpu", "gpu"])
    return Trained(checkpoint.load_net(path), chosen_device(device, option="device="))
