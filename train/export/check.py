"""Compares an exported file with the net that it was made from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from ingest.errors import UserError
from ingest.shards.wording import count
from train.export.formats import quiet, reader

# Largest difference of logits that passes, as a share of the largest logit: float32 sums in another order; float16.
TOLERANCE, HALF_TOLERANCE = 1e-3, 2e-2
_MOST = 0.01  # share of the logits that may differ by more, and of the pixels that may get another class


def check(net: nn.Module, path: Path, images: Sequence[Tensor], argmax: bool, half: bool = False) -> str:
    """Compares the file with the net in float32 on each of the images (uint8 [N,C,H,W]); a line on how they agree.

    UserError where 1% of the logits are further off than the tolerance, or 1% of the pixels get another class. (Not
    "any": where a net unpools, a near tie may fall the other way, and a value lands one pixel off.)
    """
    with quiet():
        exported = reader(path)
    tolerance = HALF_TOLERANCE if half else TOLERANCE
    worst = largest = 0.0
    apart = changed = pixels = logits = 0
    with torch.no_grad():
        for batch in images:
            expected, found = net(batch), exported(batch)
            classes = expected.argmax(dim=1)
            if found.shape != (classes.shape if argmax else expected.shape):
                raise UserError(f"{path} gives {list(found.shape)} where the net gives {list(expected.shape)}")
            if not argmax:
                error = (found - expected).abs() / expected.abs().max()
                worst, largest = max(worst, error.nan_to_num(torch.inf).max().item()), expected.abs().max().item()
                apart += int((~(error <= tolerance)).sum())  # not: a NaN is no agreement
                logits += error.numel()
            changed += int(((found if argmax else found.argmax(dim=1)) != classes).sum())
            pixels += classes.numel()
    same = f"{changed:,} of {count(pixels, 'pixel')} get another class"
    if apart > _MOST * logits or changed > _MOST * pixels:
        raise UserError(f"{path} does not agree with the net: {_far(worst, apart, logits)}{same}: do not use it")
    told = "" if argmax else f"logits within {worst:.2g} of the largest ({largest:.3g}); "
    return f"agrees with the net on {count(len(images), 'batch', 'batches')} of images: {told}{same}"


def _far(worst: float, apart: int, logits: int) -> str:
    if not logits:
        return ""
    return f"{100 * apart / logits:.2f}% of the logits are too far off (by up to {worst:.2g} of the largest), "
