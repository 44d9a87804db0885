"""Fetches the shards of a split in the order in which a plan reads them, ahead of the loader, as the cache allows.

Threads go through the shards by their first use in the epoch, then in the next one. Where the cache is full, what goes
is what the plan needs last; where all in it is needed sooner than the next shard, they wait.
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ingest.errors import UserError
from ingest.shards.remote.staged import Abandoned, StagedTars

# Epoch -> its samples in the order in which they are read, int64; -1 stands for one of another dataset.
Order = Callable[[int], NDArray[np.int64]]

_THREADS = 4  # downloads at a time: one connection to an object store gives a part of what the link can
_PAUSE = 0.2  # seconds between two looks for room
_RETRY = 2.0  # seconds after a failure: who needs the shard will say what is wrong


@dataclass(frozen=True)
class Uses:
    """Of S shards, the first and last place of an epoch's order where each is read, int64 [S]."""

    first: NDArray[np.int64]
    """Larger than any place where the shard is not read."""
    last: NDArray[np.int64]
    """-1 where it is not."""


def uses(samples: NDArray[np.int64], ends: NDArray[np.int64], begin: int = 0) -> Uses:
    """Of an epoch's samples (int64 [N], -1 for none) from place `begin` on. ends: int64 [S], where each shard's end."""
    places = begin + np.flatnonzero(samples[begin:] >= 0)
    shards = np.searchsorted(ends, samples[places], side="right")
    first, last = np.full(len(ends), len(samples)), np.full(len(ends), -1)
    last[shards] = places  # of several the last one stays
    first[shards[::-1]] = places[::-1]
    return Uses(first, last)


class Ahead:
    """The threads, and what they know of the plan."""

    def __init__(self, tars: StagedTars, ends: NDArray[np.int64], order: Order, behind: int) -> None:
        """behind: places before the one that `reached` tells of which may still be read."""
        self._tars, self._ends, self._order, self._behind = tars, ends, order, behind
        self._changed = threading.Condition()
        self._turn = threading.Lock()
        self._stopped = False
        self._epoch, self._place = 0, 0
        self._uses: dict[int, Uses] = {}
        self._lengths: dict[int, int] = {}
        self._queue: deque[int] = deque()
        self._queued = -1  # the last epoch whose shards are, or were, in the queue
        self._threads = [threading.Thread(target=self._work, daemon=True, name="staging") for _ in range(_THREADS)]

    def start(self, epoch: int, place: int) -> None:
        """From that place of that epoch on."""
        self._epoch, self._place = epoch, place
        self._enqueue(epoch, place)
        self._tars.next_use = self.next_use
        self._tars.abandon.clear()
        for thread in self._threads:
            thread.start()

    def reached(self, epoch: int, place: int) -> None:
        """That is what is to be read next."""
        with self._changed:
            self._epoch, self._place = epoch, place
            self._changed.notify_all()

    def close(self) -> None:
        """Ends the threads; of what they are fetching nothing stays."""
        self._tars.abandon.set()
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join(10)  # a part of a file takes longer only where a link is not worth waiting for

    def next_use(self) -> NDArray[np.float64]:
        """Of each shard, the place where it is read next, counted from the begin of the epoch; inf: not as far as is
        known."""
        with self._changed:
            epoch, now = self._epoch, self._place - self._behind
            here, then = self._uses.get(epoch), self._uses.get(epoch + 1)
            length, next_length = self._lengths.get(epoch, 0), self._lengths.get(epoch + 1, 0)
        found = np.full(len(self._ends), np.inf)
        if then is not None:
            found = np.where(then.first < next_length, then.first + float(length), found)
        if here is not None:
            # One that is read now and again later counts as read now: windows are short.
            found = np.where(here.last >= now, np.maximum(here.first, now), found)
        return found

    def _enqueue(self, epoch: int, place: int) -> None:
        samples = self._order(epoch)
        found = uses(samples, self._ends, place)
        wanted = [int(one) for one in np.argsort(found.first, kind="stable") if found.last[one] >= 0]
        with self._changed:
            self._uses = {number: one for number, one in self._uses.items() if number >= epoch - 1} | {epoch: found}
            self._lengths[epoch] = len(samples)
            self._queue.extend(wanted)
            self._queued = epoch

    def _work(self) -> None:
        while not self._stopped:
            # One thread at a time waits for room, so that no shard takes it from an earlier one.
            with contextlib.ExitStack() as turn:
                turn.enter_context(self._turn)
                shard = self._next()
                while shard is not None and not self._stopped and not self._settled(shard, turn.close):
                    self._tars.close_removed()
                    with self._changed:
                        self._changed.wait(_PAUSE)

    def _next(self) -> int | None:
        """A shard to fetch; None at the end."""
        while True:
            with self._changed:
                if self._stopped:
                    return None
                if self._queue:
                    return self._queue.popleft()
                further = self._queued + 1 if self._queued <= self._epoch else None
                if further is not None:
                    self._queued = further  # this thread does it
                else:
                    self._changed.wait(1.0)
            self._tars.close_removed()
            if further is not None:
                self._enqueue(further, 0)

    def _settled(self, shard: int, begun: Callable[[], None]) -> bool:
        """Whether the shard is there, or comes by another process, or cannot come at all. begun: called when it is
        about to come."""
        try:
            return self._tars.fetched(shard, urgent=False, begun=begun) is not None or self._tars.comes_elsewhere(shard)
        except Abandoned:
            return True
        except UserError:
            with self._changed:
                self._changed.wait(_RETRY)
            return True
