"""The loaders: iterate `Batch`es. `TrainLoader` streams augmented crops, `EvalLoader` visits each image once."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Generator, Iterator
from typing import Any

from ingest.errors import UserError
from ingest.shards.reader import ShardSet
from ingest.shards.wording import count
from pipeline import balance, color, equal_sizes, geometry, plan, staging
from pipeline.augment import blur_sigmas
from pipeline.batch import Batch
from pipeline.config import Stream
from pipeline.cpu import batches as cpu
from pipeline.damage import Damage
from pipeline.feeding import Feeding
from pipeline.gpu import handover
from pipeline.position import LoaderState
from pipeline.request import Request, mean_color


class TrainLoader:
    """An endless stream of augmented crops, a pure function of (dataset, stream, position).

    Iterating starts where `state_dict` says; each batch handed out moves it on. Rank r of R gets its share of every
    global batch of `R * batch_size` samples; an epoch's tail that does not fill one is left out.

    Raises UserError when the split is smaller than the global batch or has no labels.
    """

    def __init__(self, shards: ShardSet, stream: Stream, feeding: Feeding | None = None) -> None:
        """stream: what is made; its batch size is this rank's. feeding: with what, for which rank."""
        self.shards, self.stream, self.feeding = shards, stream, feeding or Feeding()
        self.batch_size, ranks = stream.batch_size, self.feeding.ranks
        self.global_batch = self.batch_size * ranks
        if not shards.labeled:
            raise UserError(f"split {shards.split!r} of {shards.folder} has no labels: train on a labeled split")
        if shards.manifest.channels != 3 and (keys := stream.augment.colors):
            raise UserError(
                f"augment.{keys[0]} changes colors, but images of {shards.folder} have {shards.manifest.channels} "
                f"channels, not 3: set {', '.join(f'augment.{key}=0' for key in keys)}"
            )
        self.epoch_samples = sum(part.visits for part in shards.parts)
        """Crops of an epoch: the samples, of a folder with a weight so many times as many."""
        self.steps_per_epoch = plan.steps_per_epoch(self.epoch_samples, self.global_batch)
        if not self.steps_per_epoch:
            raise UserError(
                f"split {shards.split!r} has {count(self.epoch_samples, 'sample')}, fewer than one global batch of "
                f"{self.global_batch} ({ranks} x {self.batch_size}): lower data.batch_size"
            )
        if stream.augment.cat_max_ratio < 1:
            shards.areas(0)  # a dataset without the record is refused here, not in a thread
        staging.check_room(shards, stream.shuffle_window)
        self._targets = balance.targets(shards, stream.balance)
        self.epoch = 0
        self.position = 0  # of the next global batch in the epoch's order

    def order(self, epoch: int) -> balance.Epoch:
        """The samples of an epoch, in the order in which it visits them."""
        return balance.epoch_of(self.shards, self.stream, epoch, self._targets)

    def fingerprint(self) -> str:
        """Names the stream: equal fingerprints, seeds and positions give equal pixels."""
        tars = [shard.sha256 for shard in self.shards.manifest.split(self.shards.split).shards]
        stream = self.stream
        facts: list[Any] = [tars, stream.seed, stream.shuffle_window, stream.augment.stated()]
        if stream.balance:
            facts.append(stream.balance)
        if any(part.weight != 1 for part in self.shards.parts):
            facts.append([[part.samples, part.weight] for part in self.shards.parts])
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]

    def state_dict(self) -> LoaderState:
        """Where the stream stands: plain numbers and a fingerprint."""
        return {"epoch": self.epoch, "position": self.position, "fingerprint": self.fingerprint()}

    def load_state_dict(self, state: LoaderState) -> None:
        """Goes on from `state`, also with another world size. UserError when it is another stream's."""
        if state["fingerprint"] != self.fingerprint():
            raise UserError(
                "the checkpoint's data stream differs from this run's (dataset, seed or augmentation changed): "
                "resume with the settings it was made with, or start a new run"
            )
        self.epoch, self.position = state["epoch"], state["position"]

    def __iter__(self) -> Generator[Batch]:
        """Close it (`contextlib.closing`) when done: that ends the threads that work ahead."""
        feeding = self.feeding
        if feeding.resident:
            from pipeline.gpu import resident

            batches = resident.crops(self.shards, self._requests(), self.stream, feeding)
        elif feeding.gpu is not None:
            from pipeline.gpu import batches as gpu

            batches = gpu.crops(self.shards, self._requests(), self.stream, feeding)
        else:
            batches = cpu.crops(self.shards, self._requests(), self.stream, feeding)
            if feeding.copy_to is not None:
                batches = handover.copied(batches, feeding.copy_to)
        cursors, damage = self._cursors(), Damage(self.shards, feeding.max_bad_share)
        next(cursors)
        with contextlib.closing(batches):
            for batch in batches:
                damage.add(batch)
                self.epoch, self.position = next(cursors)
                yield batch

    def _cursors(self) -> Iterator[tuple[int, int]]:
        """(epoch, position) of this and every later global batch."""
        epoch, position = self.epoch, self.position
        while True:
            if position + self.global_batch > self.epoch_samples:
                epoch, position = epoch + 1, 0
            yield epoch, position
            position += self.global_batch

    def _requests(self) -> Iterator[Request]:
        stream, rank, fill = self.stream, self.feeding.rank, mean_color(self.shards)
        order: balance.Epoch | None = None
        # Batches that are planned, but perhaps not read yet.
        behind = (self.feeding.prefetch + 2) * self.global_batch
        following = self.shards.following(lambda epoch: self.order(epoch).samples, self.epoch, self.position, behind)
        with following as reached:
            for epoch, position in self._cursors():
                reached(epoch, position)
                if order is None or order.number != epoch:
                    order = self.order(epoch)
                positions = plan.positions(position, rank, self.batch_size)
                samples = order.samples[positions]
                draws = balance.draws_of(self.shards, stream, order, positions)
                sizes = self.shards.sizes_hw[samples]
                self.shards.will_need(samples)  # cold files are on their way while earlier batches are made
                yield Request(
                    samples,
                    geometry.matrices(draws, sizes, stream.augment),
                    blur_sigmas(draws, stream.augment),
                    geometry.downsample_factors(draws, sizes, stream.augment),
                    color.colors(draws, stream.augment, fill),
                    color.rectangles(draws, stream.augment),
                )


class EvalLoader:
    """Every image of a split once, whole and at its own size, in batches of equal sizes.

    The batches are formed before they are dealt to the ranks, so that a net sees the same ones at any world size; a
    rank may get one batch more than another, or none.
    """

    def __init__(self, shards: ShardSet, batch_size: int = 1, feeding: Feeding | None = None) -> None:
        """feeding: with what batches are made, for which rank (None: on the CPU, for one)."""
        self.shards, self.batch_size, self.feeding = shards, batch_size, feeding or Feeding()
        self.batches = equal_sizes.batches(shards.sizes_hw, batch_size).of_rank(self.feeding.rank, self.feeding.ranks)

    def __len__(self) -> int:
        """Batches of this rank."""
        return len(self.batches)

    def __iter__(self) -> Generator[Batch]:
        """UserError on a broken file: scores that leave images out would not be comparable."""
        feeding, requests = self.feeding, self._requests()
        if feeding.gpu is not None:
            from pipeline.gpu import batches as gpu

            return gpu.whole_images(self.shards, requests, self.batch_size, feeding)
        batches = cpu.whole_images(self.shards, requests, feeding)
        return batches if feeding.copy_to is None else handover.copied(batches, feeding.copy_to)

    def _requests(self) -> Iterator[Request]:
        place, behind = 0, (self.feeding.prefetch + 2) * self.batch_size
        with self.shards.following(self.batches.order, 0, 0, behind) as reached:
            for samples in self.batches:
                reached(0, place)
                place += len(samples)
                yield Request(samples)
