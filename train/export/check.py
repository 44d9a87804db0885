"""Compares an exported file with the net that it was made from."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from ingest.errors import UserError
from train.export.formats import _quiet, photos, reader

# Largest difference of logits that --check lets pass, as a share of the largest logit: float32 sums in another order.
TOLERANCE = 1e-3


def check(net: nn.Module, path: Path, channels: int, size: tuple[int, int]) -> str:
    """Compares the file with the net on noise of several sizes and batches; a line on how well they agree.

    UserError where 1% of the logits are further off than TOLERANCE of the largest, or 1% of the pixels get another
    class. (Not "any": where a net unpools, a near tie may fall the other way, and a value lands one pixel off.)
    """
    with _quiet():
        exported = reader(path)
    others = [(1, (size[0] // 2 + 11, size[1] // 2 + 3)), (3, size)] if path.suffix != ".ts" else []
    worst = apart = changed = 0.0
    with torch.no_grad():
        for batch, shape in [(1, size), *others]:
            images = photos(channels, shape, batch)
            expected, found = net(images), exported(images)
            if found.shape != expected.shape:
                raise UserError(f"{path} gives {list(found.shape)} where the net gives {list(expected.shape)}")
            error = (found - expected).abs() / expected.abs().max()
            worst = max(worst, error.max().item())
            apart = max(apart, (error > TOLERANCE).float().mean().item())
            changed = max(changed, (found.argmax(1) != expected.argmax(1)).float().mean().item())
    if not (apart < 0.01 and changed < 0.01):  # not: a NaN is no agreement
        raise UserError(
            f"{path} does not agree with the net: {100 * apart:.2f}% of the logits are off by more than "
            f"{TOLERANCE:g} of the largest, {100 * changed:.2f}% of the pixels get another class: do not use it"
        )
    return (
        f"agrees with the net in {1 + len(others)} sizes: logits within {worst:.2g} of the largest "
        f"({100 * apart:.2f}% of them off by more than {TOLERANCE:g}), {100 * (1 - changed):.2f}% of the pixels get "
        "the same class"
    )
