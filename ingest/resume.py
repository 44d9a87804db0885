"""The partial folder of an ingest at work: whose it is, and what in it is finished."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import pickle
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ingest.errors import UserError
from ingest.pixels.labels import DrawnLabel
from ingest.shards import atomic, manifest
from ingest.shards.manifest import ShardRecord
from ingest.shards.remote import urls
from ingest.sources.archives import Source

_PLAN = "plan.json"
STAMP = ".sources"  # beside each shard at work: from which files it is made


def fingerprint(*facts: object) -> str:
    """sha256 of what decides the shards' bytes."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=repr).encode()).hexdigest()


@contextmanager
def claim(folder: Path, plan: str, resume: bool) -> Iterator[None]:
    """Holds `folder` for this process, new or (under `resume`) as a killed ingest of the same plan left it.

    Raises UserError when it belongs to another plan, to a running ingest, or is there without `resume`.
    """
    if folder.exists() and not resume:
        raise UserError(f"{folder} is what a killed ingest left: go on with --resume, or delete it")
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / _PLAN
    with open(path, "a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # let go by the kernel, however the process ends
        except BlockingIOError as error:
            raise UserError(f"{folder}: another ingest is at work there: wait for it, or give another --out") from error
        file.seek(0)
        held = file.read()
        if not held:
            with atomic.named(path):
                os.write(file.fileno(), plan.encode())  # not buffered: closing would raise once more, with no name
                os.fsync(file.fileno())
        elif held != plan:
            raise UserError(f"{folder} was begun with another source or other options: use the same, or delete it")
        atomic.sweep(folder)
        yield
        path.unlink(missing_ok=True)


def stamp(sources: Iterable[Source | DrawnLabel]) -> str:
    """sha256 of the sources' names, sizes and times of change, or of what an annotation says.

    Not part of the fingerprint: who mends one broken file goes on, and only the shards with changed files are redone.
    """
    digest = hashlib.sha256()
    for source in sources:
        if isinstance(source, Source):
            what = f"{source.name}\0{source.size}\0{_changed(source.path)}\0".encode("utf-8", "surrogateescape")
        else:
            what = pickle.dumps(source)
            if isinstance(record := getattr(source, "record", None), Source):  # a file of its own
                what += str(_changed(record.path)).encode()
        digest.update(what)
    return digest.hexdigest()


def _changed(path: str) -> int:
    """Nanoseconds; 0 for a file that is gone, which is told when it is read."""
    try:
        return os.stat(path).st_mtime_ns
    except OSError:
        return 0


def begin(folder: Path, name: str, mark: str) -> None:
    """Forgets an earlier shard of that name, and notes from which sources it is made now."""
    (folder / f"{name}.json").unlink(missing_ok=True)
    (folder / f"{name}{STAMP}").write_text(mark)


def finished(folder: Path, name: str, mark: str, url: str | None = None) -> ShardRecord | None:
    """The record of a shard that is whole on disk (the record is written after tar and index), else None.

    mark: the stamp of its sources; a shard that was made from others is not finished. url: where tar and index lie, if
    elsewhere than record and stamp.
    """
    tar, noted = folder / f"{name}.tar", folder / f"{name}{STAMP}"
    local = [folder / f"{name}.json", noted, *([] if url else [tar, tar.with_suffix(".idx")])]
    if not all(path.exists() for path in local):
        return None
    if noted.read_text() != mark:
        return None
    try:
        record = manifest.load_shard(folder, name)
    except UserError:  # damaged, or of an earlier version: made anew
        return None
    size = urls.size(f"{url}/{tar.name}") if url else tar.stat().st_size
    return record if size == record.bytes else None


def forget_stamps(folder: Path) -> None:
    """Once all shards are done."""
    for noted in folder.glob(f"*{STAMP}"):
        noted.unlink()
