"""Each rank's heartbeat: it publishes where the rank is, notices a rank that failed or hangs, and names it.

A thread writes twice a second into the store that the ranks share. It does not depend on the thread that trains, which
a collective may hold for as long as another rank does not come.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch.distributed as dist

PERIOD = 0.5  # seconds between two beats
GRACE = 3.0  # seconds that a rank has to end by itself when another has failed
_FAILED = "failed"


@dataclass(frozen=True)
class Beat:
    """What a rank last published about itself."""

    number: int
    """Of the beat: one that does not grow is of a process that is stopped or dead."""
    place: int
    """How far it has come, counted the same on all ranks."""
    waiting: bool
    """Whether it waits for the others."""
    idle: float
    """Seconds since it last got anything done."""
    where: str
    """`step 12: the next batch`."""
    process: str
    """`pid 77 on host`."""


class Heartbeat:
    """One rank's heartbeat. All methods may be called from the thread that trains."""

    def __init__(
        self, store: dist.Store, rank: int, count: int, patience: float, say: Callable[[str], None] | None = None
    ) -> None:
        """store: shared by the ranks of this start alone. patience: seconds until a rank that hangs is named.

        say: called in the heartbeat's thread with the line that ends all ranks; then, or when another rank has failed,
        the process exits.
        """
        self._store, self._rank, self._count, self._patience = store, rank, count, patience
        self._say = say
        self._process = f"pid {os.getpid()} on {socket.gethostname()}"
        self._number, self._place, self._where, self._moved = 0, 0, "starting", time.monotonic()
        self._waiting = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def start(self) -> None:
        """Begins to beat."""
        self._beat()
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread: the rank has nothing more to do with the others."""
        self._stop.set()
        self._thread.join()

    def at(self, where: str) -> None:
        """The next place of the way that all ranks go: published with its count."""
        self._place, self._where, self._moved = self._place + 1, where, time.monotonic()

    def tick(self) -> None:
        """Something was done, of which other ranks may have more or less."""
        self._moved = time.monotonic()

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Within the block this rank waits for the others."""
        self._waiting, self._moved = True, time.monotonic()
        try:
            yield
        finally:
            self._waiting, self._moved = False, time.monotonic()

    def claim(self, line: str) -> str | None:
        """None where this rank is the first to fail; else the first one's line. Without a store all are."""
        mine = f"{self._rank} {line}"
        with contextlib.suppress(Exception):
            first = self._store.compare_set(_FAILED, "", mine).decode()
            return None if first == mine else first.partition(" ")[2]
        return None

    def failed(self) -> str | None:
        """The line of the first rank that failed; None: none has, or the store is gone."""
        with contextlib.suppress(Exception):
            if self._store.check([_FAILED]):
                return self._store.get(_FAILED).decode().partition(" ")[2]
        return None

    def silent(self) -> list[str]:
        """The other ranks whose heartbeat has stopped, described. Takes two seconds."""
        before = self._others()
        time.sleep(4 * PERIOD)
        after = self._others()
        return [
            f"rank {rank} ({beat.process}, {beat.where})"
            for rank, beat in after.items()
            if rank in before and before[rank].number == beat.number
        ]

    def _beat(self) -> None:
        self._number += 1
        idle = time.monotonic() - self._moved
        facts = (self._number, self._place, int(self._waiting), f"{idle:.1f}", self._where, self._process)
        self._store.set(f"beat/{self._rank}", "\t".join(map(str, facts)))

    def _others(self) -> dict[int, Beat]:
        found = {}
        for rank in range(self._count):
            if rank != self._rank and self._store.check([f"beat/{rank}"]):
                number, place, waiting, idle, where, process = self._store.get(f"beat/{rank}").decode().split("\t")
                found[rank] = Beat(int(number), int(place), waiting == "1", float(idle), where, process)
        return found

    def _run(self) -> None:
        # The store goes with torchrun's agent or with rank 0: then there is nobody to tell.
        with contextlib.suppress(Exception):
            while not self._stop.wait(PERIOD):
                self._beat()
                if self._store.check([_FAILED]):
                    self._follow()
                elif time.monotonic() - self._moved > self._patience and (line := self._missing()):
                    self._say_and_end(line)

    def _follow(self) -> None:
        """Another rank has failed, or this one has: its own thread may be in a collective that never ends."""
        if not self._stop.wait(GRACE):
            os._exit(1)

    def _missing(self) -> str | None:
        """A line that names the ranks which the others wait for; None where none is behind without progress."""
        before = self._others()
        time.sleep(4 * PERIOD)
        late = []
        for rank, beat in self._others().items():
            stopped = rank in before and before[rank].number == beat.number
            behind = beat.place < self._place or (beat.place == self._place and not beat.waiting and self._waiting)
            if stopped or (behind and beat.idle > self._patience):
                late.append(f"rank {rank} ({beat.process}) stands at {beat.where}{', stopped' if stopped else ''}")
        if not late:
            return None
        return (
            f"error: {'; '.join(late)}, and has made no progress for {self._patience / 60:g} minutes; the others wait "
            f"at {self._where}: look at that machine, or raise train.rank_timeout; go on with --resume auto"
        )

    def _say_and_end(self, line: str) -> None:
        if self.claim(line) is None and self._say is not None:
            self._say(line)
        os._exit(1)
