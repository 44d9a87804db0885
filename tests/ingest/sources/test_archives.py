"""Archives that unpack to more than they should are refused before that is read."""

from __future__ import annotations

import io
import tarfile
import tracemalloc
import zipfile
from pathlib import Path

import pytest

from ingest.errors import UserError
from ingest.sources.trees import Tree


def test_a_compressed_tar_that_is_a_bomb(tmp_path: Path) -> None:
    class Zeros(io.RawIOBase):
        left = 500 << 20

        def read(self, size: int = -1) -> bytes:
            size = min(self.left, 1 << 20 if size < 0 else size)
            self.left -= size
            return bytes(size)

    with tarfile.open(tmp_path / "x.tar.gz", "w:gz", compresslevel=1) as held:
        info = tarfile.TarInfo("a.png")
        info.size = Zeros.left
        held.addfile(info, Zeros())
    tracemalloc.start()
    try:
        with pytest.raises(UserError, match=r"x\.tar\.gz unpacks to over"):
            Tree(tmp_path)
        assert tracemalloc.get_traced_memory()[1] < 20 << 20
    finally:
        tracemalloc.stop()


def test_a_zip_member_that_unpacks_to_more_than_it_says(tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as held:
        held.writestr("a.png", bytes(64 << 20))
    data = path.read_bytes()
    at = data.index(b"PK\1\2")
    path.write_bytes(data[: at + 24] + (100).to_bytes(4, "little") + data[at + 28 :])
    tracemalloc.start()
    try:
        with pytest.raises(UserError, match=r"x\.zip"):
            Tree(tmp_path).source("x.zip/a.png").read()
        assert tracemalloc.get_traced_memory()[1] < 10 << 20
    finally:
        tracemalloc.stop()


def test_a_plain_compressed_tar_is_read(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "x.tgz", "w:gz") as held:
        info = tarfile.TarInfo("a.png")
        info.size = 5
        held.addfile(info, io.BytesIO(b"hello"))
    assert Tree(tmp_path).source("x.tgz/a.png").read() == b"hello"
