"""One shard on disk: a USTAR tar and its DALI v1.2 index. Same samples, same bytes."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from ingest.shards import atomic, idx
from ingest.shards.idx import Member

BLOCK = tarfile.BLOCKSIZE


class TarWriter:
    """Writes `<name>.tar` and, on close, `<name>.idx`. Headers carry nothing of the machine or the hour."""

    def __init__(self, folder: Path, name: str) -> None:
        self.path = folder / f"{name}.tar"
        self.size = 0
        self._digest = hashlib.sha256()
        self._samples: list[list[Member]] = []
        self._file: BinaryIO = open(self.path, "wb")  # noqa: SIM115  closed by close()

    def add(self, key: str, files: list[tuple[str, bytes]]) -> list[Member]:
        """Appends one sample, its (extension, bytes) files. Returns where they lie."""
        members = []
        for ext, data in files:
            info = tarfile.TarInfo(f"{key}.{ext}")
            info.size, info.mode = len(data), 0o644
            self._write(info.tobuf(tarfile.USTAR_FORMAT))
            members.append(Member(info.name, self.size, len(data)))
            self._write(data)
            self._write(b"\0" * (-len(data) % BLOCK))
        self._samples.append(members)
        return members

    def close(self) -> str:
        """Finishes tar and index on disk; returns the tar's sha256."""
        self._write(b"\0" * (2 * BLOCK))
        self._write(b"\0" * (-self.size % tarfile.RECORDSIZE))
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self.path)) from error
        self._file.close()
        atomic.write_text(self.path.with_suffix(".idx"), idx.text(self._samples))
        return self._digest.hexdigest()

    def abort(self) -> None:
        """Closes and removes what was written."""
        with contextlib.suppress(OSError):  # what is still buffered: the first error is the one to tell
            self._file.close()
        self.path.unlink(missing_ok=True)

    def _write(self, data: bytes) -> None:
        try:
            self._file.write(data)
        except OSError as error:  # a full disk: say where
            raise OSError(error.errno, error.strerror, str(self.path)) from error
        self._digest.update(data)
        self.size += len(data)


def read_samples(path: Path) -> Iterator[tuple[str, dict[str, bytes]]]:
    """(key, {extension: bytes}) of each sample, in order, by the tar alone. UserError when it is no whole tar."""
    for members in idx.of_tar(path):
        with open(path, "rb") as tar:
            files = {}
            for member in members:
                tar.seek(member.at)
                files[member.ext] = tar.read(member.bytes)
        yield members[0].key, files
