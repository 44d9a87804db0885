"""The loaders: iterate `Batch`es. `TrainLoader` streams augmented crops, `EvalLoader` visits each image once."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Generator, Iterator
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ingest.errors import UserError
from ingest.shards.reader import ShardSet
from pipeline import geometry, plan
from pipeline.augment import Augment, blur_sigmas
from pipeline.batch import Batch
from pipeline.cpu import batches as cpu
from pipeline.gpu import handover
from pipeline.request import OnBad, Request


def available_threads(local_world: int = 1) -> int:
    """This rank's share of the cores that the process may use, at least 1."""
    return max(1, len(os.sched_getaffinity(0)) // local_world)


class TrainLoader:
    """An endless stream of augmented crops, a pure function of (dataset, seed, augment, position).

    Iterating starts where `state_dict` says; each batch handed out moves it on. `rank` of `world` gets its share of
    every global batch of `world * batch_size` samples; an epoch's tail that does not fill one is left out.

    Raises UserError when the split is smaller than the global batch or has no labels.
    """

    def __init__(
        self,
        shards: ShardSet,
        augment: Augment,
        batch_size: int,
        *,
        seed: int = 0,
        shuffle_window: int = 0,
        device: str | torch.device = "cpu",
        threads: int | None = None,
        prefetch: int = 2,
        rank: int = 0,
        world: int = 1,
        on_bad_sample: OnBad = "error",
        copy_to: torch.device | None = None,
    ) -> None:
        """Batches are made on `device`; copy_to: the GPU that CPU batches are handed to (`pipeline.handover`).

        shuffle_window: shards that are shuffled together, 0 for the whole split (`plan.windowed_order`).
        on_bad_sample: a file that does not decode is an error, or its sample becomes mean colour and label 255 (and is
        named in `Batch.skipped`): the same on every rank, and nothing that counts in a loss.
        """
        self.shuffle_window = shuffle_window
        self.shards, self.augment, self.batch_size, self.seed = shards, augment, batch_size, seed
        self.device, self.on_bad_sample, self.copy_to = torch.device(device), on_bad_sample, copy_to
        self.threads, self.prefetch, self.rank = threads or available_threads(), prefetch, rank
        self.global_batch = batch_size * world
        if not shards.labeled:
            raise UserError(f"split {shards.split!r} of {shards.folder} has no labels: train on a labelled split")
        self.steps_per_epoch = plan.steps_per_epoch(len(shards), self.global_batch)
        if not self.steps_per_epoch:
            raise UserError(
                f"split {shards.split!r} has {len(shards)} samples, fewer than one global batch of {self.global_batch} "
                f"({world} x {batch_size}): lower the batch size"
            )
        self.epoch = 0
        self.position = 0  # of the next global batch in the epoch's order
        mean = shards.manifest.mean
        self._fill = [round(255 * value) for value in mean]

    def fingerprint(self) -> str:
        """Names the stream: equal fingerprints, seeds and positions give equal pixels."""
        tars = [shard.sha256 for shard in self.shards.manifest.split(self.shards.split).shards]
        facts = json.dumps([tars, self.seed, self.shuffle_window, asdict(self.augment)], sort_keys=True)
        return hashlib.sha256(facts.encode()).hexdigest()[:16]

    def state_dict(self) -> dict[str, Any]:
        """Where the stream stands: plain numbers and a fingerprint."""
        return {"epoch": self.epoch, "position": self.position, "fingerprint": self.fingerprint()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from `state`, also with another world size. UserError when it is another stream's."""
        if state["fingerprint"] != self.fingerprint():
            raise UserError(
                "the checkpoint's data stream differs from this run's (dataset, seed or augmentation changed): "
                "resume with the settings it was made with, or start a new run"
            )
        self.epoch, self.position = state["epoch"], state["position"]

    def __iter__(self) -> Generator[Batch]:
        """Close it (`contextlib.closing`) when done: that ends the threads that work ahead."""
        if self.device.type == "cuda":
            from pipeline.gpu import batches as gpu

            batches = gpu.crops(
                self.shards,
                self._requests(),
                self.augment,
                self._fill,
                self.batch_size,
                self.threads,
                self.prefetch,
                _gpu_number(self.device),
                self.on_bad_sample,
            )
        else:
            batches = cpu.crops(
                self.shards,
                self._requests(),
                self.augment.crop,
                self._fill,
                self.threads,
                self.prefetch,
                self.on_bad_sample,
                pin=self.copy_to is not None,
            )
            if self.copy_to is not None:
                batches = handover.copied(batches, self.copy_to)
        cursors = self._cursors()
        next(cursors)
        with contextlib.closing(batches):
            for batch in batches:
                self.epoch, self.position = next(cursors)
                yield batch

    def _cursors(self) -> Iterator[tuple[int, int]]:
        """(epoch, position) of this and every later global batch."""
        epoch, position = self.epoch, self.position
        while True:
            if position + self.global_batch > len(self.shards):
                epoch, position = epoch + 1, 0
            yield epoch, position
            position += self.global_batch

    def _requests(self) -> Iterator[Request]:
        order_of: tuple[int, NDArray[np.int64]] | None = None
        for epoch, position in self._cursors():
            if order_of is None or order_of[0] != epoch:
                order_of = epoch, plan.windowed_order(self.seed, epoch, self.shards.counts, self.shuffle_window)
            samples = plan.share(order_of[1], position, self.rank, self.batch_size)
            draws = plan.draw(self.seed, epoch, samples)
            sizes = self.shards.sizes_hw[samples]
            self.shards.will_need(samples)  # cold files are on their way while earlier batches are made
            yield Request(
                samples,
                geometry.matrices(draws, sizes, self.augment),
                blur_sigmas(draws, self.augment),
                geometry.shrinks(draws, sizes, self.augment),
            )


class EvalLoader:
    """Every image of a split once, whole and at its own size, in batches of equal sizes.

    The batches are formed before they are dealt to the ranks, so that a net sees the same ones at any world size; a
    rank may get one batch more than another, or none.
    """

    def __init__(
        self,
        shards: ShardSet,
        batch_size: int = 1,
        *,
        device: str | torch.device = "cpu",
        threads: int | None = None,
        prefetch: int = 2,
        rank: int = 0,
        world: int = 1,
        copy_to: torch.device | None = None,
    ) -> None:
        """Batches are made on `device`; copy_to: the GPU that CPU batches are handed to (`pipeline.handover`)."""
        self.shards, self.batch_size, self.device, self.copy_to = shards, batch_size, torch.device(device), copy_to
        self.threads, self.prefetch = threads or available_threads(), prefetch
        self.batches = _equal_sized(shards.sizes_hw, batch_size)[rank::world]

    def __len__(self) -> int:
        """Batches of this rank."""
        return len(self.batches)

    def __iter__(self) -> Generator[Batch]:
        """UserError on a broken file: scores that leave images out would not be comparable."""
        requests = (Request(samples) for samples in self.batches)
        if self.device.type == "cuda":
            from pipeline.gpu import batches as gpu

            return gpu.whole_images(
                self.shards, requests, self.batch_size, self.threads, self.prefetch, _gpu_number(self.device)
            )
        pin = self.copy_to is not None
        batches = cpu.whole_images(self.shards, requests, self.threads, self.prefetch, pin)
        return batches if self.copy_to is None else handover.copied(batches, self.copy_to)


def _gpu_number(device: torch.device) -> int:
    """ "cuda" without a number is the current GPU."""
    return torch.cuda.current_device() if device.index is None else device.index


def _equal_sized(sizes_hw: NDArray[np.int64], batch_size: int) -> list[NDArray[np.int64]]:
    """All samples in batches of one size each; inside a size, and among the batches, in the samples' order."""
    groups: dict[tuple[int, int], list[int]] = {}
    for sample, (height, width) in enumerate(sizes_hw.tolist()):
        groups.setdefault((height, width), []).append(sample)
    batches = [group[i : i + batch_size] for group in groups.values() for i in range(0, len(group), batch_size)]
    return [np.array(batch, dtype=np.int64) for batch in sorted(batches)]
