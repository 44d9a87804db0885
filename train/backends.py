"""How a GPU computes: the one place where TF32, cuDNN's autotuner and determinism are set. CPUs are left alone.

TF32 keeps float32's range and 10 bits of its mantissa; from Ampere on it multiplies float32 matrices several times
faster. Autocast's bf16 and fp16 are not concerned. It is on unless the recipe says `train.tf32: false`, for matrix
products and for convolutions alike (torch by itself has it on for convolutions only).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from ingest.errors import UserError


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


@contextmanager
def prioritized(wanted: bool, device: torch.device) -> Iterator[None]:
    """Within the block the net's kernels are queued on a stream that goes before others: before the loader's decoding
    and warping, which have a batch's time, where the net has none to lose."""
    if not wanted or device.type != "cuda":
        yield
        return
    stream, outer = torch.cuda.Stream(device, priority=-1), torch.cuda.current_stream(device)
    stream.wait_stream(outer)
    try:
        with torch.cuda.stream(stream):
            yield
    finally:
        outer.wait_stream(stream)


@contextmanager
def deterministic(wanted: bool, device: torch.device) -> Iterator[None]:
    """Within the block only kernels run that give the same bits each time; cuDNN's autotuner is off.

    UserError names the first part of the net or loss that has none (torch raises a RuntimeError there).
    """
    if not wanted or device.type != "cuda":
        yield
        return
    # cuBLAS reads it when its first handle is made; torch refuses matrix products without it.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(True)
    try:
        with autotuned(False, device):
            yield
    except RuntimeError as error:
        part = re.match(r"(\S+) does not have a deterministic implementation", str(error))
        if part is None:
            raise
        raise UserError(
            f"train.deterministic = true, but {part[1]} has no kernel on this GPU that gives the same bits each time: "
            "use a net or loss without it, or train.deterministic=false"
        ) from error
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
