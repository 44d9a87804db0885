"""The tars of a split behind a URL: fetched when they are first read, or ahead of that, into the bounded local cache.

Each process fetches under one lock a file: the ranks of a machine share the cache, and no shard comes twice. A shard
that another process removed while it was needed here is fetched again; one that is open stays readable.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from ingest.errors import UserError
from ingest.shards import manifest
from ingest.shards.facts import Manifest, Shard
from ingest.shards.handles import Handles, Tar
from ingest.shards.remote import urls
from ingest.shards.remote.bucket import Bucket, Listed, opened
from ingest.shards.remote.cache import Cache

_PAUSE = 0.05  # seconds between two looks for room that others hold


@dataclass(frozen=True)
class Staged:
    """A dataset behind a URL whose shards come to `folder` as they are needed."""

    bucket: Bucket
    folder: Path
    cache: Cache
    manifest: Manifest
    used: IO[bytes]
    """Open as long as the folder is in use."""

    def fetch_index(self, split: str) -> None:
        """The split's index, which is needed at once and stays."""
        index = self.manifest.split(split).index
        assert index is not None
        file = Listed(manifest.index_name(split), index.bytes, index.sha256)
        urls.fetch_listed(self.bucket, file, self.folder, self.cache)

    def fetch_record(self, shard: str) -> None:
        """`<shard>.json`, unless it is there."""
        name = f"{shard}.json"
        with self.cache.locked(self.folder / name):
            if not (self.folder / name).exists():
                self.bucket.fetch(name, self.folder)


def open_url(url: str, cache: Cache | None = None) -> Staged | Path:
    """What is to be staged; or, of schema 1, which has no index that could be read alone, the whole folder staged.

    UserError when the URL holds no finished dataset or cannot be reached.
    """
    cache, bucket = cache or Cache(), opened(url)
    raw = bucket.manifest()
    folder = cache.dataset(url, raw)
    facts = manifest.parse(raw, Path(f"{url}/{manifest.FILE}"))
    if facts.schema == 1:
        return urls.stage(url, cache.folder, cache.max_bytes)
    return Staged(bucket, folder, cache, facts, cache.used(folder))


class Abandoned(Exception):
    """Nobody wants what is being fetched any more."""


class Traffic:
    """What staging has cost this process so far. Threads may share it."""

    def __init__(self) -> None:
        self.fetched_bytes = 0
        self.fetched_shards = 0
        self._stalled, self._waiting, self._since = 0.0, 0, 0.0
        self._lock = threading.Lock()

    @property
    def stall_seconds(self) -> float:
        """How long at least one thread has waited for a shard."""
        with self._lock:
            return self._stalled + (time.monotonic() - self._since if self._waiting else 0.0)

    def add(self, content: int) -> None:
        """That many bytes have come."""
        with self._lock:
            self.fetched_bytes += content

    @contextlib.contextmanager
    def stall(self) -> Iterator[None]:
        """Within the block a thread waits for a shard."""
        with self._lock:
            if not self._waiting:
                self._since = time.monotonic()
            self._waiting += 1
        try:
            yield
        finally:
            with self._lock:
                self._waiting -= 1
                if not self._waiting:
                    self._stalled += time.monotonic() - self._since


@dataclass(frozen=True)
class Staging:
    """A split that is staged, for those who watch it."""

    url: str
    shard_bytes: list[int]
    cache: Cache
    traffic: Traffic


class StagedTars(Handles):
    """The tars of one split of a `Staged` dataset, with the interface of those on a local disk."""

    def __init__(self, staged: Staged, shards: list[Shard]) -> None:
        super().__init__([staged.folder / f"{one.name}.tar" for one in shards], [one.bytes for one in shards])
        self._staged, self.traffic = staged, Traffic()
        self._files = [Listed(f"{one.name}.tar", one.bytes, one.sha256) for one in shards]
        self.abandon = threading.Event()
        """Set: what is fetched without being urgent ends in `Abandoned` after its next part."""
        # Of each shard, when it is read next; set by `ahead.Ahead`. Without a plan all are alike.
        self.next_use: Callable[[], NDArray[np.float64]] = lambda: np.zeros(len(shards))
        largest = max(self._files, key=lambda one: one.bytes)
        if largest.bytes > staged.cache.max_bytes:
            raise UserError(
                f"{staged.bucket.url}/{largest.name} has {largest.bytes:,} bytes, the cache may hold "
                f"{staged.cache.max_bytes:,}: allow it more (data.staging_gb), or ingest with smaller shards"
            )

    def __getitem__(self, shard: int) -> Tar:
        """Open; fetched first where need be. UserError when that fails."""
        if (tar := self.held(shard)) is not None:
            return tar
        while (tar := self.fetched(shard, urgent=True)) is None:
            time.sleep(_PAUSE)
        return self.hold(shard, tar)

    def ready(self, shard: int) -> Tar | None:
        return self.held(shard)

    def comes_elsewhere(self, shard: int) -> bool:
        """Whether another thread or process is fetching it."""
        with self._staged.cache.locked(self.paths[shard], wait=False) as ours:
            return not ours

    def fetched(self, shard: int, urgent: bool, begun: Callable[[], object] = bool) -> Tar | None:
        """The tar, opened, and fetched unless it is there.

        urgent: wait for another process that fetches it, and take room from what is needed later, or by others. Else
        None where another fetches it. None also where there is no room as yet. UserError when it cannot be fetched.
        begun: called when there is room.
        """
        path, file, cache = self.paths[shard], self._files[shard], self._staged.cache
        if (tar := self._opened_if_whole(shard)) is not None:
            return tar
        with contextlib.ExitStack() as held:
            if urgent:
                held.enter_context(self.traffic.stall())
            if not held.enter_context(cache.locked(path, wait=urgent)):
                return None
            if (tar := self._opened_if_whole(shard)) is not None:
                return tar
            if not cache.reserve(path, file.bytes, self._expendable(shard, urgent)):
                return None
            begun()
            self._staged.bucket.fetch_listed(file, self._staged.folder, self.traffic.add if urgent else self._count)
            self.traffic.fetched_shards += 1
            return Tar(path, file.bytes)

    def _count(self, content: int) -> None:
        self.traffic.add(content)
        if self.abandon.is_set():
            raise Abandoned

    def _opened_if_whole(self, shard: int) -> Tar | None:
        path, size = self.paths[shard], self._files[shard].bytes
        try:
            if path.stat().st_size != size:  # cut short by whatever
                return None
            os.utime(path)  # used now
            return Tar(path, size)
        except (FileNotFoundError, UserError):  # removed meanwhile
            return None

    def _expendable(self, shard: int, urgent: bool) -> Iterator[Path]:
        """Files that may go for this shard, in their order."""
        uses = self.next_use()
        later = np.flatnonzero(uses > uses[shard])
        yield from (self.paths[one] for one in later[np.argsort(-uses[later], kind="stable")])
        own, folder = set(self.paths), self._staged.folder
        yield from _oldest(one for one in folder.glob("*.tar") if one not in own)  # of other splits
        if urgent:
            yield from _oldest(
                one
                for one in folder.parent.glob("*/*.tar")
                if one != self.paths[shard] and not (one.parent / manifest.FILE).exists()  # whole: not for parts to go
            )


def _oldest(paths: Iterator[Path]) -> list[Path]:
    """By when they were used last."""

    def used(path: Path) -> float:
        try:
            return path.stat().st_mtime
        except FileNotFoundError:
            return 0.0

    return sorted(paths, key=used)
