"""The partial folder of an ingest at work: whose it is, and what in it is finished."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ingest.errors import UserError
from ingest.shards import manifest
from ingest.shards.manifest import ShardRecord

_PLAN = "plan.json"


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
            file.write(plan)
            file.flush()
            os.fsync(file.fileno())
        elif held != plan:
            raise UserError(f"{folder} was begun with another source or other options: use the same, or delete it")
        yield
        path.unlink(missing_ok=True)


def finished(folder: Path, name: str) -> ShardRecord | None:
    """The record of a shard that is whole on disk (the record is written after tar and index), else None."""
    tar = folder / f"{name}.tar"
    if not (folder / f"{name}.json").exists() or not tar.exists() or not (folder / f"{name}.idx").exists():
        return None
    record = manifest.load_shard(folder, name)
    return record if tar.stat().st_size == record.bytes else None
