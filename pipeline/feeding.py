"""With what of the machine batches are made, and for which rank. Nothing here changes the stream."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from typing import Literal

import torch

from ingest.errors import UserError
from ingest.shards.reader import ShardSet
from pipeline.config import DataConfig

# What a damaged sample does: stop the run, or count for nothing.
OnBad = Literal["error", "skip"]


@dataclass(frozen=True)
class Feeding:
    """How a loader works, for one rank of many."""

    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    """Where images are decoded and warped."""
    threads: int = 0
    """Decoding and warping threads; 0: all cores that the process may use."""
    prefetch: int = 2
    """Batches made ahead."""
    rank: int = 0
    ranks: int = 1
    """How many ranks share the stream."""
    on_bad_sample: OnBad = "error"
    """A training sample whose file is damaged is an error, or becomes mean color and label 255 (and is named in
    `Batch.skipped`): the same on every rank, and nothing that counts in a loss."""
    max_bad_share: float = 1.0
    """More damaged samples than this share of the split are an error, also where each is skipped."""
    hw_decoder_load: float = 0.65
    """Of a GPU's JPEGs, the share for its hardware decoder."""
    resident: bool = False
    """Training images are decoded once and stay on the device, see `pipeline/gpu/resident.py`."""
    copy_to: torch.device | None = None
    """The GPU that batches made on the CPU are copied to, see `pipeline/gpu/handover.py`."""

    @property
    def workers(self) -> int:
        """Threads to start."""
        return self.threads or available_threads()

    @property
    def pinned(self) -> bool:
        """Whether batches lie in page-locked memory, from which a GPU copies by itself."""
        return self.copy_to is not None

    @property
    def gpu(self) -> int | None:
        """The number of the GPU that makes the batches; None: the CPU does. "cuda" alone is the current GPU."""
        if self.device.type != "cuda":
            return None
        return torch.cuda.current_device() if self.device.index is None else self.device.index


def available_threads(local_ranks: int = 1) -> int:
    """This rank's share of the cores that the process may use, at least 1."""
    return max(1, len(os.sched_getaffinity(0)) // local_ranks)


def of_recipe(data: DataConfig, net: torch.device, rank: int = 0, ranks: int = 1, local_ranks: int = 1) -> Feeding:
    """What a recipe's `data` section asks for, for a net on the device `net`; see `for_split`.

    local_ranks: ranks on this machine, which share its cores.
    """
    return Feeding(
        device=net,
        threads=data.threads or available_threads(local_ranks),
        prefetch=data.prefetch,
        rank=rank,
        ranks=ranks,
        on_bad_sample=data.on_bad_sample,
        max_bad_share=data.max_bad_share,
        hw_decoder_load=data.hw_decoder_load,
        resident=data.cache == "gpu",
    )


def for_split(feeding: Feeding, choice: Literal["auto", "cpu", "gpu"], shards: ShardSet) -> Feeding:
    """The feeding of a split: its device as `data.device` chooses it (`data_device`), and batches brought to the net's.

    feeding: with the net's device. UserError where the recipe asks for a GPU, and there is none.
    """
    net = feeding.device
    if feeding.resident and net.type != "cuda":
        raise UserError("data.cache = gpu, but the net is on the CPU: use data.cache=none")
    device = data_device(choice, net, shards)
    # Batches made on the CPU reach the GPU while it works on the one before.
    return replace(feeding, device=device, copy_to=net if (device.type, net.type) == ("cpu", "cuda") else None)


def data_device(choice: Literal["auto", "cpu", "gpu"], net: torch.device, shards: ShardSet) -> torch.device:
    """Where `data.device` has batches made for a net on the device `net`. UserError: the GPU is asked for, without one.

    auto: on the net's GPU when that decodes the images, which are then all JPEG; else on the CPU. Of PNGs and arrays a
    GPU would get the decoded pixels of whole images across the bus, only to warp them.
    """
    if choice == "gpu" and net.type != "cuda":
        raise UserError("data.device = gpu, but the net is on the CPU: use data.device=cpu")
    if choice == "gpu" or (choice == "auto" and net.type == "cuda" and shards.image_formats == {"jpg"}):
        return net
    return torch.device("cpu")
