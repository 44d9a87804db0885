"""Files that are there whole or not at all: written under a name of their own, synced, then renamed into place.

A reader never sees half a file, a full disk or a kill leaves the old one, and two processes that write the same file do
not write into each other's: the last to finish wins. Every OSError raised here names the file that was asked for.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import json
import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

SUFFIX = ".partial"
_LONGEST_NAME = 255 - len(SUFFIX) - 24  # bytes: what Linux allows, less the process id and the count
_STREAMS = ("/dev/std", "/dev/fd/", "/proc/")  # perhaps a redirected file, which others write to as well

_ORPHANED = 600  # seconds without a write: on a shared disk a process id of another machine says nothing

_count = itertools.count()
_swept: set[Path] = set()


def write_bytes(path: str | os.PathLike[str], data: bytes) -> None:
    """Writes a file whole or not at all. OSError (full disk, no permission, a folder in the way) names `path`."""
    with opened(path) as file:
        file.write(data)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """The same for text, as UTF-8."""
    write_bytes(path, text.encode())


def write_json(path: str | os.PathLike[str], value: Any, indent: int | None = 1) -> None:
    """The same for a value as JSON, with a line feed at the end."""
    write_text(path, json.dumps(value, indent=indent) + "\n")


@contextmanager
def opened(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """An open file to be written, which takes the place of `path` when the block ends without an error."""
    with replacing(path) as partial, open(partial, "wb") as file:
        yield file


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A path for what writes files by name (Pillow, torch, ONNX). The file there takes `path`'s place at the end.

    The name keeps its suffix: it lies in a folder of its own beside the target, `<name>.<process>-<count>.partial/`,
    where no pattern such as `*.pt` finds it. Removed on any error. Where `path` is a device or a pipe
    (`/dev/stdout`), that itself is written to.
    """
    given = Path(path)
    if str(given).startswith(_STREAMS) or (given.exists() and not given.is_file()):
        with _naming(path, given):
            if given.is_dir():
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
            yield given
        return
    target = Path(os.path.realpath(path))  # of a link its target is replaced, as any writer would
    name = os.fsdecode(os.fsencode(target.name)[:_LONGEST_NAME])
    folder = target.with_name(f"{name}.{os.getpid()}-{next(_count)}{SUFFIX}")
    _sweep_orphans(target.parent)
    with _naming(path, folder):
        os.mkdir(folder)
        try:
            yield folder / target.name
            _sync(folder / target.name)
            os.replace(folder / target.name, target)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        with contextlib.suppress(OSError):  # some file systems cannot sync folders: the file itself is safe
            _sync(target.parent)


def replace_folder(folder: str | os.PathLike[str], files: dict[str, bytes]) -> None:
    """A folder of exactly these files; the one before it goes only when the new one is whole."""
    target = Path(folder)
    partial = target.with_name(f"{target.name}.{os.getpid()}-{next(_count)}{SUFFIX}")
    try:
        partial.mkdir(parents=True)
        for name, content in files.items():
            (partial / name).write_bytes(content)
            _sync(partial / name)
        shutil.rmtree(target, ignore_errors=True)
        os.replace(partial, target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def sweep(folder: str | os.PathLike[str]) -> None:
    """Removes what killed writers left in a folder: `*.partial`. Only for a folder that no one else writes to."""
    for left in Path(folder).glob(f"*{SUFFIX}"):
        if left.is_dir() and not left.is_symlink():
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.unlink(missing_ok=True)


def _sweep_orphans(parent: Path) -> None:
    """Removes the folders `<name>.<process>-<count>.partial` of killed writers: no such process, no write for ten
    minutes. Once a folder, since it may hold many files. Never fails: what cannot be looked at stays."""
    if parent in _swept:
        return
    _swept.add(parent)
    with contextlib.suppress(OSError):
        for left in parent.glob(f"*{SUFFIX}"):
            found = re.search(r"\.(\d+)-\d+$", left.stem)
            if not found or _alive(int(found[1])) or not left.is_dir() or left.is_symlink():
                continue
            last = max(file.stat().st_mtime for file in (left, *left.iterdir()))
            if time.time() - last > _ORPHANED:
                shutil.rmtree(left, ignore_errors=True)


def _alive(process: int) -> bool:
    return Path(f"/proc/{process}").exists()


@contextmanager
def named(path: str | os.PathLike[str]) -> Iterator[None]:
    """OSErrors that name no file, as a full disk's while writing, told of `path`."""
    try:
        yield
    except OSError as error:
        if error.errno is None or error.filename is not None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


@contextmanager
def _naming(path: str | os.PathLike[str], written: Path) -> Iterator[None]:
    """OSErrors about `written` told of `path`: a full disk's has no name at all, others that of a temporary file."""
    try:
        yield
    except OSError as error:
        other = error.filename is not None and not str(error.filename).startswith(str(written))
        if error.errno is None or other:  # a library's own, or of a file that the block read
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
