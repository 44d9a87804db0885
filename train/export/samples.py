"""Images to trace, calibrate and check an exported net with: the dataset's own, or noise where it is not at hand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ingest.errors import UserError
from ingest.shards.reader import ShardSet
from pipeline import decode


def some(shards: ShardSet, count: int) -> list[tuple[Tensor, Tensor | None]]:
    """Images uint8 [1,C,H,W] and their labels uint8 [1,H,W] (None in a split without), spread evenly over the split."""
    chosen = np.unique(np.linspace(0, len(shards) - 1, min(count, len(shards))).round().astype(int)).tolist()
    found = []
    for sample in chosen:
        try:
            image = torch.from_numpy(np.array(decode.image(shards.image(sample))))  # a copy: the memory is used again
            label = torch.from_numpy(np.array(decode.label(shards.label(sample)))) if shards.labeled else None
        except decode.DecodeError as error:
            raise UserError(f"{shards.keys[sample]} in {shards.shard_of(sample)} is broken ({error})") from error
        found.append((image.permute(2, 0, 1)[None].contiguous(), None if label is None else label[None]))
    return found


def open_split(folder: str, split: str, facts: Mapping[str, Any]) -> ShardSet | None:
    """The split, or None where it is not at hand. UserError where it is another dataset's."""
    try:
        shards = ShardSet(folder, split)
    except UserError:
        return None
    if shards.manifest.channels != facts["channels"] or shards.manifest.classes != facts["classes"]:
        raise UserError(
            f"--data {folder} is not the dataset that the net was trained on: give that one, or leave it out"
        )
    return shards


def noise(channels: int, size: tuple[int, int], batch: int = 1) -> Tensor:
    """Smooth noise, uint8 [batch, channels, height, width]."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(batch, channels, 8, 8, generator=generator)
    return (nn.functional.interpolate(coarse, size=size, mode="bicubic").clamp(0, 1) * 255).to(torch.uint8)
