"""How a GPU computes: the one place where TF32 and cuDNN's autotuner are set. CPUs are left alone.

TF32 keeps float32's range and 10 bits of its mantissa; from Ampere on it multiplies float32 matrices several times
faster. Autocast's bf16 and fp16 are not concerned. It is on unless the recipe says `train.tf32: false`, for matrix
products and for convolutions alike (torch by itself has it on for convolutions only).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


def set_tf32(allowed: bool, device: torch.device) -> None:
    """For this process, until it is set again."""
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high" if allowed else "highest")
        torch.backends.cudnn.allow_tf32 = allowed


@contextmanager
def autotuned(wanted: bool, device: torch.device) -> Iterator[None]:
    """Within the block cuDNN times its algorithms once for each new shape, and takes the fastest.

    It pays where one shape comes thousands of times, as in training; not where each image has its own size.
    """
    before = torch.backends.cudnn.benchmark
    if device.type == "cuda":
        torch.backends.cudnn.benchmark = wanted
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before
