"""From what was asked for and what the checkpoint was trained with to how images become scores."""

from __future__ import annotations

import torch

from ingest.errors import UserError
from train import config, model
from train.checkpoints.state import State
from train.predict.options import Asked
from train.predict.windows import Inference


def inference(state: State, device: torch.device, asked: Asked) -> Inference:
    """What is asked for, and otherwise what the checkpoint was trained with. UserError where the two disagree."""
    recipe = config.parse(state["config"])
    window = asked.window
    if asked.mode == "whole" and (window or asked.stride):
        raise UserError("--mode whole takes no --window and no --stride: leave them out, or use --mode sliding")
    if asked.mode == "sliding" or window or asked.stride:
        window = window or recipe.augment.crop
    return Inference(
        asked.amp or model.scoring_amp(recipe.train.amp, device),
        recipe.data.val_size,
        recipe.data.val_side,
        window,
        asked.stride,
        asked.scales,
        asked.flip,
    )
