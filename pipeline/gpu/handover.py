"""Batches made on the CPU, handed to a net on a GPU: copied on a stream of their own, beside the net's kernels."""

from __future__ import annotations

import contextlib
from collections.abc import Generator
from dataclasses import replace

import torch

from pipeline.batch import Batch


def copied(batches: Generator[Batch], device: torch.device) -> Generator[Batch]:
    """The same batches on `device`; theirs must lie in page-locked memory, or each copy waits for itself.

    A training loop queues its kernels ahead of the GPU, so on the net's own stream a batch would queue up behind the
    step before. On another it crosses during that step. Lifetimes: torch's allocator of page-locked memory gives a
    block out again only after the copies from it; `record_stream` does the same for the copy, which was allocated on
    this stream and is used on the net's.
    """
    stream = torch.cuda.Stream(device)
    with contextlib.closing(batches):
        for batch in batches:
            images = across(batch.images, stream, device)
            labels = None if batch.labels is None else across(batch.labels, stream, device)
            yield replace(batch, images=images, labels=labels)


def across(tensor: torch.Tensor, stream: torch.cuda.Stream, device: torch.device) -> torch.Tensor:
    """A copy on `device`, made on `stream`, for use on its current stream."""
    with torch.cuda.stream(stream):
        copy = tensor.to(device, non_blocking=True)
    net = torch.cuda.current_stream(device)
    net.wait_stream(stream)
    copy.record_stream(net)
    return copy
