"""Open tars: opened when they are first read, a bounded number at a time, checked at each read.

Bytes are read (`pread`), not mapped: where a mapped tar is truncated or its disk fails, the kernel kills the process
with SIGBUS; a read says so. It costs 20 us more than a mapped file for 110 KB, 190 us for 1.2 MB, 1 to 2% of decoding
either (docs/performance.md).
"""

from __future__ import annotations

import errno
import os
import resource
import threading
from collections import OrderedDict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ingest.errors import UserError
from ingest.shards.idx import Member

Bytes = NDArray[np.uint8]
HEADER = 512  # bytes of a tar member's header, before its data


class Tar:
    """An open tar of a known size. The file stays readable when it is deleted or replaced by another."""

    def __init__(self, path: Path, expected: int) -> None:
        self.path = path
        try:
            self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError as error:
            raise UserError(f"{path} is missing: restore it or ingest the dataset again") from error
        check_size(path, os.fstat(self._file).st_size, expected)

    def __del__(self) -> None:
        if hasattr(self, "_file"):
            os.close(self._file)

    @property
    def removed(self) -> bool:
        """Whether the file is in no folder any more."""
        return os.fstat(self._file).st_nlink == 0

    def read(self, member: Member) -> Bytes:
        """The member's bytes. UserError when they are not there or the header before them names another file."""
        content = np.empty(HEADER + member.bytes, dtype=np.uint8)
        self.read_into(content, member.at - HEADER, member.name)
        # The header costs nothing to check, and catches an index of another tar.
        if content[: len(member.name) + 1].tobytes() != member.name.encode() + b"\0":
            raise UserError(
                f"{self.path} has another file than {member.name!r} where its index says: see "
                f"`python -m ingest verify {self.path.parent}`"
            )
        return content[HEADER:]

    def read_into(self, content: Bytes, at: int, name: str) -> None:
        """Fills `content`, uint8 [bytes], from offset `at` on. UserError, about the file `name`, when it cannot."""
        got = 0
        try:
            # Network file systems may give less than is asked for; nothing at all is the end of the file.
            while got < len(content) and (more := os.preadv(self._file, [content.data[got:]], at + got)):
                got += more
        except OSError as error:  # a failing disk; on a network file system also a file that was replaced (ESTALE)
            raise UserError(
                f"{name} in {self.path} cannot be read ({error.strerror}): check the disk, and see that nothing "
                f"writes to the shards while they are in use"
            ) from error
        if got != len(content):
            raise UserError(
                f"{self.path} ends inside {name}: it was truncated while in use; "
                f"copy it again or ingest the dataset again"
            )

    def will_need(self, start: int, end: int) -> None:
        """Tells the system to read bytes start..end soon, and does not wait."""
        os.posix_fadvise(self._file, start, end - start, os.POSIX_FADV_WILLNEED)


def check_size(path: Path, actual: int, expected: int) -> None:
    """UserError unless a tar has the bytes that dataset.json says."""
    if actual != expected:
        raise UserError(
            f"{path} has {actual} bytes, dataset.json says {expected}: "
            f"the shard is truncated or of another run; copy it again or ingest the dataset again"
        )


class Handles:
    """The tars of a split by number, at most `limit` of them open. Threads may share it."""

    def __init__(self, paths: list[Path], sizes: list[int], limit: int | None = None) -> None:
        """limit: by default a quarter of the files that the process may open, so that train and val fit beside all
        else."""
        self.paths, self.sizes = paths, sizes
        self._limit = limit or min(4096, max(16, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 4))
        self._open: OrderedDict[int, Tar] = OrderedDict()  # the one used last is last
        self._lock = threading.Lock()

    def __getitem__(self, shard: int) -> Tar:
        """Open. UserError when the file is missing or of another size than it should be."""
        tar = self.held(shard)
        return self.hold(shard, self._opened(shard)) if tar is None else tar

    def held(self, shard: int) -> Tar | None:
        """The tar, if it is open."""
        with self._lock:
            if shard in self._open:
                self._open.move_to_end(shard)
            return self._open.get(shard)

    def hold(self, shard: int, tar: Tar) -> Tar:
        """Keeps a tar open, and returns it; or the one that another thread has opened meanwhile."""
        with self._lock:
            tar = self._open.setdefault(shard, tar)
            if len(self._open) > self._limit:
                # Closed when the last thread that reads it lets go.
                self._open.popitem(last=False)
            return tar

    def ready(self, shard: int) -> Tar | None:
        """The tar, where it takes no long wait to open it."""
        return self[shard]

    def close_removed(self) -> None:
        """Lets go of open tars that are no longer in their folder, so that the disk gets their room back."""
        with self._lock:
            for shard in [number for number, tar in self._open.items() if tar.removed]:
                del self._open[shard]

    def _opened(self, shard: int) -> Tar:
        path = self.paths[shard]
        while True:
            try:
                return Tar(path, self.sizes[shard])
            except OSError as error:
                if error.errno not in (errno.EMFILE, errno.ENFILE):
                    raise
                with self._lock:
                    if not self._open:
                        raise UserError(f"{path}: too many open files; allow more (ulimit -n)") from error
                    self._open.popitem(last=False)
