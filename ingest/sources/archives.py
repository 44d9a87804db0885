"""Zips and tars read in place: members are listed once, then read by offset; nothing is extracted to disk."""

from __future__ import annotations

import os
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from ingest.errors import UserError

_SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
_KEPT = (".mat", ".txt", ".png")  # of a compressed tar, which has no random access: labels and lists, held in memory
_KEPT_BYTES = 1 << 30
_UNPACKED = 64 << 20  # bytes that a compressed tar may unpack to whatever its own size
_RATIO = 200  # beyond that: bytes a byte of archive. Masks are compressed already; more than this is made to do harm


@dataclass(frozen=True)
class Source:
    """One raw file, on disk or in an archive. Small and picklable: workers get it and read the bytes themselves."""

    name: str  # relative to the raw dataset's root, with slashes
    path: str  # the file on disk, or the archive
    size: int  # bytes, unpacked
    offset: int | None = None  # in the archive: of a tar member's bytes, of a zip member's local header
    packed: int = 0  # zip: bytes as stored
    method: int | None = None  # zip: 0 stored, 8 deflated
    crc: int = 0  # zip
    data: bytes | None = None  # of a compressed tar's member

    @property
    def loose(self) -> bool:
        """A file of its own, not a member of an archive."""
        return self.offset is None and self.data is None

    def read(self) -> bytes:
        """The file's bytes. Raises UserError when it is gone, unreadable or damaged."""
        if self.data is not None:
            return self.data
        try:
            with open(self.path, "rb") as file:
                if self.offset is None:
                    return file.read()
                file.seek(self.offset)
                data = file.read(self.size) if self.method is None else self._unzip(file)
        except OSError as error:
            raise UserError(f"{self.name} cannot be read ({error.strerror}): check {self.path}") from error
        if len(data) != self.size:
            raise UserError(f"{self.name} is cut short: {self.path} is truncated, download it again")
        return data

    def _unzip(self, file: BinaryIO) -> bytes:
        """A member's bytes, from behind its local header (APPNOTE.TXT 4.3.7), which name and extra field follow."""
        header = file.read(30)
        file.seek(int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little"), 1)
        data = file.read(self.packed)
        try:
            if self.method == zipfile.ZIP_DEFLATED:  # no further than the size that the archive lists
                data = zlib.decompressobj(-15).decompress(data, self.size + 1)
        except zlib.error as error:
            raise UserError(f"{self.name} is damaged ({error}): download {self.path} again") from error
        if zlib.crc32(data) != self.crc:
            raise UserError(f"{self.name} is damaged (CRC differs): download {self.path} again")
        return data


def is_archive(name: str) -> bool:
    """By its name: .zip, .tar, .tar.gz, .tgz, .tar.bz2, .tar.xz."""
    return name.lower().endswith(_SUFFIXES)


def members(path: str, name: str) -> Iterator[Source]:
    """An archive's files, named `<name>/<member>`. Raises UserError on a broken archive or an unsafe member name."""
    try:
        if path.lower().endswith(".zip"):
            yield from _zip_members(path, name)
        elif path.lower().endswith(".tar"):
            yield from _tar_members(path, name)
        else:
            yield from _packed_tar_members(path, name)
    except (zipfile.BadZipFile, tarfile.TarError, EOFError, zlib.error, OSError) as error:
        raise UserError(f"{path} is not a whole archive ({error}): download it again") from error


def _zip_members(path: str, name: str) -> Iterator[Source]:
    with zipfile.ZipFile(path) as held:
        for info in held.infolist():
            if info.is_dir():
                continue
            if info.flag_bits & 1 or info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise UserError(f"{path}: {info.filename} is encrypted or oddly compressed: unpack the archive first")
            member = _safe(info.filename, path)
            yield Source(
                f"{name}/{member}",
                path,
                info.file_size,
                info.header_offset,
                info.compress_size,
                info.compress_type,
                info.CRC,
            )


def _tar_members(path: str, name: str) -> Iterator[Source]:
    with tarfile.open(path, "r:") as held:
        for info in held:
            if info.isfile():
                yield Source(f"{name}/{_safe(info.name, path)}", path, info.size, info.offset_data)


def _packed_tar_members(path: str, name: str) -> Iterator[Source]:
    kept = total = 0
    most = max(_UNPACKED, _RATIO * os.path.getsize(path))
    with tarfile.open(path, "r|*") as held:
        for info in held:
            total += info.size
            if total > most:  # before it is read
                raise UserError(
                    f"{path} unpacks to over {most:,} bytes, {_RATIO} times its own size: it is damaged or made to do "
                    "harm; fetch it again, or unpack it yourself"
                )
            if not info.isfile() or not info.name.lower().endswith(_KEPT):
                continue
            kept += info.size
            if kept > _KEPT_BYTES:
                raise UserError(f"{path} is a compressed tar with too much in it to be read in place: unpack it first")
            file = held.extractfile(info)
            assert file is not None
            yield Source(f"{name}/{_safe(info.name, path)}", path, info.size, data=file.read())


def printable(name: str) -> str:
    """A file's name as text that can be written anywhere: bytes that are no UTF-8 as `\\udcff`."""
    return name.encode("utf-8", "backslashreplace").decode()


def _safe(member: str, path: str) -> str:
    """Members that point outside of their archive are nothing a dataset holds."""
    clean = member.replace("\\", "/").removeprefix("./")
    if clean.startswith("/") or ".." in clean.split("/") or (len(clean) > 1 and clean[1] == ":"):
        raise UserError(f"{path} holds the unsafe member name {member!r}: do not use this archive")
    return printable(clean)
