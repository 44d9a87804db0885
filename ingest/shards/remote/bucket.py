"""A folder behind a URL (`s3://`, `gs://`, `memory://` ...), through fsspec, and how its files come to this disk."""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ingest.errors import UserError, message
from ingest.shards import manifest

_PART = 8 << 20  # bytes a request: few enough requests, and a broken connection costs no more than this
_TRIES = 4  # of each request, with a longer pause before each
_HOPELESS = (FileNotFoundError, PermissionError, NotADirectoryError)  # asking again does not help


@dataclass(frozen=True)
class Listed:
    """A file as dataset.json lists it."""

    name: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Bucket:
    """A URL, opened."""

    url: str
    system: Any
    """The fsspec file system."""
    root: str
    """The folder's path in it."""

    def manifest(self) -> bytes:
        """`dataset.json` as it lies there. UserError when the URL holds no finished dataset or cannot be reached."""
        try:
            return self.system.cat_file(f"{self.root}/{manifest.FILE}")
        except FileNotFoundError as error:
            raise UserError(
                f"{self.url} has no dataset.json: ingest did not finish there, or it is another folder"
            ) from error
        except Exception as error:  # every file system has errors of its own
            raise self.unreachable(error) from error

    def unreachable(self, error: Exception) -> UserError:
        """The error for a URL that does not answer."""
        return UserError(f"{self.url} cannot be reached ({message(error)}): check the URL and your credentials")

    def fetch(self, name: str, folder: Path) -> None:
        """Copies a small file, of which neither size nor sum is known, into the folder; see `fetch_listed`."""
        partial_of(folder / name).unlink(missing_ok=True)
        with _appearing(folder / name) as write:
            write(self._ask(name, None, None))

    def fetch_listed(self, file: Listed, folder: Path, counted: Callable[[int], object] = bool) -> None:
        """Copies a file into the folder, where it has its name only once it is whole and its sum is right.

        Until then it is `<name>.partial`, which is removed if this fails. For one caller at a time. counted: told of
        each part's bytes. UserError names the URL when the file is missing, cannot be fetched, or is not the listed
        one, and the local file when the disk refuses it.
        """
        found, got = hashlib.sha256(), 0
        with _appearing(folder / file.name) as write:
            for begin in range(0, file.bytes, _PART):
                content = self._ask(file.name, begin, min(file.bytes, begin + _PART))
                write(content)
                found.update(content)
                got += len(content)
                counted(len(content))
            if got != file.bytes or found.hexdigest() != file.sha256:
                raise UserError(
                    f"{self.url}/{file.name} is not the file that dataset.json lists ({got} of {file.bytes} bytes, or "
                    f"its sum differs): upload the dataset again"
                )

    def _ask(self, name: str, begin: int | None, end: int | None) -> bytes:
        """Bytes begin..end of a file, or all. Asked for again where the connection fails."""
        for attempt in range(_TRIES):
            try:
                return self.system.cat_file(f"{self.root}/{name}", start=begin, end=end)
            except _HOPELESS as error:
                if isinstance(error, FileNotFoundError):
                    raise UserError(f"{self.url}/{name} is missing: upload the dataset again") from error
                raise self.unreachable(error) from error
            except Exception as error:  # every file system has errors of its own
                if attempt + 1 == _TRIES:
                    raise UserError(
                        f"{self.url}/{name} cannot be fetched ({message(error)}; tried {_TRIES} times): check the "
                        f"network and the store, then start again; what was fetched is kept"
                    ) from error
                time.sleep(0.2 * 4**attempt)
        raise AssertionError("unreachable")


def opened(url: str) -> Bucket:
    """UserError when no file system of that kind is installed, or the URL is malformed."""
    import fsspec  # only for URLs

    try:
        system, root = fsspec.core.url_to_fs(url)
    except (ImportError, ValueError) as error:
        raise UserError(f"{url} cannot be opened: {error}") from error
    system.invalidate_cache()
    return Bucket(url, system, root.rstrip("/"))


def partial_of(path: Path) -> Path:
    """What a file is called while it comes."""
    return path.with_name(f"{path.name}.partial")


@contextlib.contextmanager
def _appearing(path: Path) -> Iterator[Callable[[bytes], None]]:
    """Gives a function that appends to `<path>.partial`, which becomes `path` at the end of the block or is removed."""
    partial, at = partial_of(path), 0

    def write(content: bytes) -> None:
        nonlocal at
        try:
            with open(partial, "r+b" if partial.exists() else "wb") as file:
                file.seek(at)
                file.write(content)
        except OSError as error:
            raise UserError(
                f"{path} cannot be written ({error.strerror}): free some space there, or let SEGRAIL_CACHE name a "
                f"folder with more"
            ) from error
        at += len(content)

    try:
        yield write
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
