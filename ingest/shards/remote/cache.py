"""The local cache of shard folders behind URLs: bounded in bytes, shared by the processes of a machine through locks.

A folder in it is named by a hash of the URL and of its dataset.json. One that holds all its files has a dataset.json,
like any shard folder; one from which shards come and go has none. Locks are empty files beside the folders.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from ingest.shards import manifest
from ingest.shards.remote.bucket import partial_of

CACHE = Path(os.environ.get("SEGRAIL_CACHE", Path.home() / ".cache" / "segrail"))


@dataclass(frozen=True)
class Cache:
    """Where shards are staged, and how much of them."""

    folder: Path = CACHE / "staged"
    max_bytes: int = 50 * 10**9

    def dataset(self, url: str, raw: bytes) -> Path:
        """The folder of the dataset at `url` whose dataset.json is `raw`. Another one there is another folder."""
        return self.folder / hashlib.sha256(url.encode() + b"\0" + raw).hexdigest()[:16]

    def used(self, dataset: Path) -> IO[bytes]:
        """Makes the dataset's folder, and keeps it while the result is open."""
        lock = open(self._lock(dataset.name, "use"), "wb")  # noqa: SIM115 (held by the caller)
        fcntl.flock(lock, fcntl.LOCK_SH)
        dataset.mkdir(exist_ok=True)
        os.utime(dataset)
        return lock

    @contextlib.contextmanager
    def locked(self, path: Path, wait: bool = True) -> Iterator[bool]:
        """One process, and one thread, at a time for a file or folder of the cache. False: another has it, without
        `wait`."""
        name = path.name if path.parent == self.folder else f"{path.parent.name}.{path.name}"
        with open(self._lock(name, "lock"), "wb") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError:
                yield False
            else:
                yield True

    def reserve(self, path: Path, size: int, expendable: Iterable[Path] = ()) -> bool:
        """Makes room for a file of `size` bytes, and takes it: `<path>.partial` of that size is there then.

        What goes for it: leftovers of killed downloads, then datasets that no process uses, the one used longest ago
        first, then the `expendable` files in their order. False: all that is not enough. The caller holds the lock of
        `path`.
        """
        with self.locked(self.folder / "room"):
            over = self.held() + size - self.max_bytes
            if over > 0:
                for gone in self._removable(path, expendable):
                    over -= gone
                    if over <= 0:
                        break
            if over > 0:
                return False
            with open(partial_of(path), "wb") as partial:
                os.truncate(partial.fileno(), size)
            return True

    def _removable(self, path: Path, expendable: Iterable[Path]) -> Iterator[int]:
        """Removes one thing after the other; bytes of each."""
        for partial in self.folder.glob("*/*.partial"):
            if partial != partial_of(path):
                with self.locked(partial.with_suffix(""), wait=False) as ours:
                    if ours:
                        yield _remove(partial)
        others = [one for one in self.folder.iterdir() if one.is_dir() and one != path.parent and one != path]
        for other in sorted(others, key=lambda one: one.stat().st_mtime):
            with open(self._lock(other.name, "use"), "wb") as use:
                try:
                    fcntl.flock(use, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    continue
                size = sum(_size(one) for one in other.iterdir())
                shutil.rmtree(other, ignore_errors=True)
                yield size
        for one in expendable:
            (one.parent / manifest.FILE).unlink(missing_ok=True)  # it will not be whole any more
            yield _remove(one)

    def held(self) -> int:
        """Bytes of all files in it, those that are coming too."""
        return sum(_size(one) or _size(_arrived(one)) for one in self.folder.glob("*/*"))

    def _lock(self, name: str, kind: str) -> Path:
        self.folder.mkdir(parents=True, exist_ok=True)
        return self.folder / f"{name}.{kind}"


def _remove(path: Path) -> int:
    size = _size(path)
    path.unlink(missing_ok=True)
    return size


def _arrived(path: Path) -> Path:
    """What `path` is called once it is whole: a download may end between being listed and being looked at."""
    return path.with_suffix("") if path.suffix == ".partial" else path


def _size(path: Path) -> int:
    """Bytes; 0 for one that another process has just removed."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
