"""From a recipe and a dataset's facts to a net that takes uint8 images, and back from a checkpoint."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

import nets
from ingest.errors import UserError, nearest
from ingest.shards.manifest import Manifest
from train import config
from train.checkpoints.state import DatasetFacts, State, Tensors
from train.config import NetConfig, Recipe
from train.optim.ema import Ema


def build(net: NetConfig, facts: DatasetFacts, state: State | None = None) -> nets.Segmenter:
    """The recipe's net behind its normalization layer: uint8 [N, C, H, W] in, logits [N, K, H, W] out.

    state: the checkpoint that the net goes on from; options that the recipe does not name are
    then as they were. Writes all options of the net into `net.options`, for the checkpoint to record. UserError for a
    net or encoder that does not exist or does not fit.
    """
    before = state["config"].get("net", {}) if state is not None else {}  # absent: all at their defaults
    if before.get("name") == net.name:
        net.options = nets.recorded_options(net.name, before.get("options", {})) | net.options
    try:
        net.options = nets.all_options(net.name, net.options)
        bare = nets.build(
            net.name,
            num_classes=len(facts["classes"]),
            backbone=net.backbone,
            pretrained=net.pretrained,
            in_channels=facts["channels"],
            output_stride=net.output_stride,
            aux=net.aux,
            **({"backbone_weights": net.backbone_weights} if net.backbone_weights else {}),
            **net.options,
        )
        # Pretrained encoders expect images as they saw them; others may have the dataset's own statistics.
        mean, std = nets.pretrained_statistics(bare) or (facts["mean"], facts["std"])
        return nets.Segmenter(bare, mean, std, freeze_backbone=net.freeze_backbone, freeze_bn=net.freeze_bn)
    except nets.NetError as error:
        raise UserError(f"net: {error}") from error


def check_batch(net: nets.Segmenter, recipe: Recipe, batch_size: int, ranks: int) -> None:
    """UserError, before training starts, for what batch norm cannot do with that batch per rank on so many ranks."""
    train = recipe.train
    synchronized = train.sync_bn and ranks > 1
    if synchronized and train.compile:
        raise UserError(
            "train.sync_bn = true and train.compile = true: synchronized batch norm breaks the compiled graph at each "
            "of its layers; set train.compile=false, or train.sync_bn=false"
        )
    if batch_size > 1 or synchronized:
        return
    norm = nets.norm_of_one_value(net, net.mean.numel(), recipe.augment.crop)
    if norm is not None:
        raise UserError(
            f"data.batch_size = 1 per rank: {recipe.net.name} brings a crop of {recipe.augment.crop} down to one value "
            f"per channel at {norm}, which batch norm cannot normalize; set data.batch_size=2 or more, "
            f"net.freeze_bn=all{', or train.sync_bn=true (on GPUs)' if ranks > 1 else ''}"
        )


def from_checkpoint(state: State) -> nets.Segmenter:
    """The net of a checkpoint in eval mode, with the averaged weights where the checkpoint holds them (train.ema)."""
    recipe = config.parse(state["config"])
    recipe.net.pretrained, recipe.net.backbone_weights = False, None  # its weights are in the checkpoint
    recipe.net.freeze_backbone = recipe.net.freeze_bn = False  # and it does not train
    model = build(recipe.net, state["dataset"], state)
    load_weights(model, state["model"], recipe.net.name)
    if averages := state.get("ema"):
        average = Ema(model, decay=0.0)
        average.load_state_dict(averages)
        average.copy_to(model)
    return model.eval()


def load_weights(model: torch.nn.Module, weights: Tensors, name: str) -> None:
    """Loads every weight or none. UserError names the first that does not fit."""
    mine = model.state_dict()
    for key in [*weights, *mine]:
        theirs_shape = tuple(weights[key].shape) if key in weights else None
        shape = tuple(mine[key].shape) if key in mine else None
        if theirs_shape != shape:
            raise UserError(
                f"the checkpoint is not of this net ({name}): weight {key!r} is {theirs_shape or 'absent'} there, "
                f"{shape or 'absent'} here; use the recipe it was trained with"
            )
    model.load_state_dict(weights)


def check_classes(facts: DatasetFacts, manifest: Manifest) -> None:
    """UserError when a dataset's classes are not those that the checkpoint was trained on."""
    if facts["classes"] != manifest.classes:
        theirs, ours = facts["classes"], manifest.classes
        i = next((i for i, (a, b) in enumerate(zip(theirs, ours, strict=False)) if a != b), min(len(theirs), len(ours)))
        raise UserError(
            f"the checkpoint was trained on {len(theirs)} classes of {facts['name']!r}, dataset {manifest.name!r} has "
            f"{len(ours)}, and they differ first at class {i} ({_at(theirs, i)} against {_at(ours, i)}): "
            f"use the same dataset"
        )
    if facts["channels"] != manifest.channels:
        raise UserError(
            f"the checkpoint takes {facts['channels']} channels, dataset {manifest.name!r} has {manifest.channels}"
        )


def autocast(amp: str, device: torch.device) -> AbstractContextManager[Any]:
    """The forward pass's number format. amp: auto | bf16 | fp16 | off."""
    dtype = amp_dtype(amp, device)
    return nullcontext() if dtype is None else torch.autocast(device.type, dtype)


def amp_dtype(amp: str, device: torch.device) -> torch.dtype | None:
    """torch.bfloat16, torch.float16 or None. auto: bf16 on GPUs that have it, else fp16; nothing on a CPU."""
    if amp == "auto":
        if device.type != "cuda":
            return None
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    choices = {"bf16": torch.bfloat16, "fp16": torch.float16, "off": None}
    if amp not in choices:
        raise UserError(f"amp = {amp!r}{nearest(amp, ['auto', *choices])}")
    return choices[amp]


def scoring_amp(trained_with: str, device: torch.device) -> str:
    """The number format that scores are taken in: that of training, but float32 on a CPU.

    There bfloat16's rounding depends on how many threads share a convolution, so that two ranks of one thread scored
    a net differently, in the sixth digit, from one rank of two; in float32 they agree.
    """
    return trained_with if device.type == "cuda" else "off"


def _at(names: list[str], i: int) -> str:
    return repr(names[i]) if i < len(names) else "none"
