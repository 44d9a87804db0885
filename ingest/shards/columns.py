"""`<split>.index.npz`: what is known of a split's samples, in columns that are mapped into memory and shared by ranks.

The file is what `numpy.savez` writes, without compression: a zip of .npy files, one a column, each beginning at a
multiple of 64 bytes so that it can be used in place. Opening it costs the same for a thousand samples as for ten
million; so does looking one of them up. Each column's CRC-32 stands in the zip's directory, and the directory's sha256
in dataset.json.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import mmap
import os
import struct
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import deflate
import numpy as np
from numpy.typing import NDArray

from ingest.errors import UserError
from ingest.shards.manifest import IndexFile

FORMS = ("jpg", "png", "npy")  # `image_form` is a place in this list
CLASS_COLUMNS = ("class_end", "class_id", "class_pixels", "class_grid")
# Files up to this size are read rather than mapped: a mapped file that is cut short while in use ends the process.
_READ = 32 << 20


@dataclass(frozen=True)
class Columns:
    """N samples in the order of the shards. `<x>_end[i]` is where sample i's part of `<x>...` ends; the one before
    gives where it begins."""

    key_end: NDArray[np.int64]  # [N]
    key_text: NDArray[np.uint8]  # [...]: the keys' ASCII, one after the other
    image_form: NDArray[np.uint8]  # [N]: 0 jpg, 1 png, 2 npy
    image_at: NDArray[np.int64]  # [N]: where the image's bytes begin in its tar
    image_bytes: NDArray[np.int64]  # [N]
    image_crc32: NDArray[np.uint32]  # [N]
    label_at: NDArray[np.int64]  # [N]: likewise; 0 without a label
    label_bytes: NDArray[np.int64]  # [N]
    label_crc32: NDArray[np.uint32]  # [N]
    size_hw: NDArray[np.int64]  # [N, 2]: pixels
    row_end: NDArray[np.int64]  # [N]
    row_crc32: NDArray[np.uint32]  # [...]: of npy images, a CRC-32 per block of 32 rows
    class_end: NDArray[np.int64]  # [N]
    class_id: NDArray[np.uint8]  # [...]: label values that occur, 255 (ignored) among them, ascending
    class_pixels: NDArray[np.uint32]  # [...]: pixels of each
    class_grid: NDArray[np.uint8]  # [..., 8, 8]: share of each cell, 255ths (`ingest.shards.areas`)

    def __len__(self) -> int:
        return len(self.key_end)

    def key(self, sample: int) -> str:
        """Of a sample, 0 to N - 1."""
        begin = self.key_end[sample - 1] if sample else 0
        return self.key_text[begin : self.key_end[sample]].tobytes().decode()


NAMES = tuple(one.name for one in dataclasses.fields(Columns))
# What each column's entries are: dtype and the shape of one.
_INTEGERS = ("key_end", "image_at", "image_bytes", "label_at", "label_bytes", "row_end", "class_end")
ENTRIES: dict[str, tuple[str, tuple[int, ...]]] = {
    **dict.fromkeys(_INTEGERS, ("<i8", ())),
    **dict.fromkeys(("image_crc32", "label_crc32", "row_crc32", "class_pixels"), ("<u4", ())),
    **dict.fromkeys(("key_text", "image_form", "class_id"), ("|u1", ())),
    "size_hw": ("<i8", (2,)),
    "class_grid": ("|u1", (8, 8)),
}


class IndexReader:
    """An open index. `columns` has every column as an array over the file; their sums are checked by `check`."""

    def __init__(self, path: Path, listed: IndexFile) -> None:
        """listed: as in dataset.json. UserError when the file is missing, of another size or another directory."""
        self.path = path
        try:
            with open(path, "rb") as file:
                size = os.fstat(file.fileno()).st_size
                if size != listed.bytes:
                    raise UserError(f"{path} has {size} bytes, dataset.json says {listed.bytes}: {_remedy(path)}")
                self._content: Any = (
                    file.read() if size <= _READ else mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
                )
        except FileNotFoundError as error:
            raise UserError(f"{path} is missing: {_remedy(path)}") from error
        try:
            start, self._members = directory(_Window(self._content))
            if hashlib.sha256(self._content[start:]).hexdigest() != listed.directory_sha256:
                raise ValueError("its directory's sum differs")
            self._ranges = {name: self._place(name) for name in NAMES}
            self.columns = Columns(**{name: self._array(name) for name in NAMES})
        except Exception as error:  # zipfile and numpy raise what they like, tokenize.TokenError for one
            raise UserError(f"{path} is damaged ({_line(error)}): {_remedy(path)}") from error

    def check(self, *names: str) -> None:
        """Compares these columns' sums with the directory's. UserError when one differs."""
        view = memoryview(self._content)
        for name in names:
            start, end = self._ranges[name]
            if deflate.crc32(view[start:end]) != self._members[name].CRC:
                raise UserError(f"{self.path} is damaged (the sum of {name} differs): {_remedy(self.path)}")

    def _place(self, name: str) -> tuple[int, int]:
        """Where a column's .npy file lies in the index."""
        member = self._members[name]
        head = self._content[member.header_offset : member.header_offset + 30]
        if head[:4] != b"PK\3\4" or member.compress_type != zipfile.ZIP_STORED:
            raise ValueError(f"{name} is not stored as it is")
        start = member.header_offset + 30 + sum(struct.unpack("<HH", head[26:30]))
        return start, start + member.file_size

    def _array(self, name: str) -> NDArray[Any]:
        start, end = self._ranges[name]
        head = io.BytesIO(self._content[start : min(end, start + 1024)])
        if np.lib.format.read_magic(head) != (1, 0):
            raise ValueError(f"{name} is no .npy file of version 1.0")
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(head)
        kind, each = ENTRIES[name]
        if fortran or dtype.str != kind or shape[1:] != each or start + head.tell() + _size(shape, dtype) != end:
            raise ValueError(f"{name} holds {dtype.str} {shape}, expected {kind} {('N', *each)}")
        flat = np.frombuffer(self._content, dtype, int(np.prod(shape)), start + head.tell())
        return flat.reshape(shape)


def _line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__} {error}".split())


def _size(shape: tuple[int, ...], dtype: np.dtype[Any]) -> int:
    return int(np.prod(shape)) * dtype.itemsize


def _remedy(path: Path) -> str:
    return f"restore it, or make it anew with `python -m ingest reindex {path.parent}`"


def directory(file: Any) -> tuple[int, dict[str, zipfile.ZipInfo]]:
    """Of an open zip: (where its directory begins, its entries by column)."""
    with zipfile.ZipFile(file) as archive:
        return archive.start_dir, {info.filename.removesuffix(".npy"): info for info in archive.infolist()}


class _Window(io.RawIOBase):
    """Bytes or a map as a file, without a copy."""

    def __init__(self, content: Any) -> None:
        self._content, self._at = content, 0

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        self._at = max(0, (0, self._at, len(self._content))[whence] + offset)
        return self._at

    def tell(self) -> int:
        return self._at

    def read(self, size: int = -1) -> bytes:
        end = len(self._content) if size is None or size < 0 else self._at + size
        part = bytes(self._content[self._at : end])
        self._at += len(part)
        return part
