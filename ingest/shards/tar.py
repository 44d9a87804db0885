"""One shard on disk: a USTAR tar, its DALI v1.2 index and its record. Same samples, same bytes."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from ingest.errors import UserError

BLOCK = tarfile.BLOCKSIZE


class TarWriter:
    """Writes `<name>.tar` and, on close, `<name>.idx`. Headers carry nothing of the machine or the hour."""

    def __init__(self, folder: Path, name: str) -> None:
        self.path = folder / f"{name}.tar"
        self.size = 0
        self._digest = hashlib.sha256()
        self._index: list[str] = []
        self._file: BinaryIO = open(self.path, "wb")  # noqa: SIM115  closed by close()

    def add(self, key: str, files: list[tuple[str, bytes]]) -> None:
        """Appends one sample: its (extension, bytes) files."""
        components = []
        for ext, data in files:
            info = tarfile.TarInfo(f"{key}.{ext}")
            info.size, info.mode = len(data), 0o644
            self._write(info.tobuf(tarfile.USTAR_FORMAT))
            components.append(f"{ext} {self.size} {len(data)} {info.name}")
            self._write(data)
            self._write(b"\0" * (-len(data) % BLOCK))
        self._index.append(" ".join(components))

    def close(self) -> str:
        """Finishes tar and index on disk; returns the tar's sha256."""
        self._write(b"\0" * (2 * BLOCK))
        self._write(b"\0" * (-self.size % tarfile.RECORDSIZE))
        _sync(self._file, self.path)
        self._file.close()
        index = self.path.with_suffix(".idx")
        with open(index, "wb") as file:
            file.write("\n".join([f"v1.2 {len(self._index)}", *self._index, ""]).encode())
            _sync(file, index)
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


def _sync(file: BinaryIO, path: Path) -> None:
    try:
        file.flush()
        os.fsync(file.fileno())
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


def index_of(path: Path) -> str:
    """The v1.2 index of a tar on disk: a line a sample of `<ext> <offset> <size> <name>` for each of its files."""
    lines: list[list[str]] = []
    last = None
    try:
        with tarfile.open(path, "r:") as tar:
            for member in tar:
                key, _, ext = member.name.partition(".")
                if key != last:
                    lines.append([])
                    last = key
                lines[-1].append(f"{ext} {member.offset_data} {member.size} {member.name}")
    except tarfile.TarError as error:
        raise UserError(f"{path} is not a whole tar ({error}): ingest the dataset again") from error
    return "\n".join([f"v1.2 {len(lines)}", *(" ".join(line) for line in lines), ""])


def read_samples(path: Path) -> Iterator[tuple[str, dict[str, bytes]]]:
    """(key, {extension: bytes}) of each sample, in order, by the tar's index."""
    index = path.with_suffix(".idx")
    try:
        lines = index.read_text().splitlines()[1:]
        with open(path, "rb") as tar:
            for line in lines:
                words = line.split()
                files = {}
                for ext, offset, size in zip(words[0::4], words[1::4], words[2::4], strict=True):
                    tar.seek(int(offset))
                    files[ext] = tar.read(int(size))
                yield words[3].partition(".")[0], files
    except FileNotFoundError as error:
        raise UserError(f"{error.filename} is missing: restore it or ingest the dataset again") from error
    except (ValueError, IndexError) as error:
        raise UserError(f"{index} is damaged ({error}): ingest the dataset again") from error
