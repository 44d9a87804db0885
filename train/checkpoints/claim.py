"""Whose a run folder is: one training at a time writes into it."""

from __future__ import annotations

import fcntl
import itertools
import os
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

import click

from ingest.errors import UserError
from ingest.shards import atomic

FILE = ".lock"
PATIENCE = 3.0  # seconds: what a killed training may need to let go


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Holds a run folder, made if need be, for this process; what a killed training left half-written is removed.

    UserError names the process that holds it. The kernel lets go, however the holder ends.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / FILE, "a+") as file:
        deadline = time.monotonic() + PATIENCE
        while not _locked(file):
            if time.monotonic() > deadline:
                file.seek(0)
                holder = file.read().strip() or "a process that says nothing"
                raise UserError(
                    f"run folder {folder} is in use by another training ({holder}): wait for it, or stop it; "
                    "without --resume a run gets a folder of its own"
                )
            time.sleep(0.05)
        holder = f"pid {os.getpid()} on {socket.gethostname()}, since {time.strftime('%Y-%m-%d %H:%M:%S')}\n"
        with atomic.named(folder / FILE):
            file.truncate(0)
            os.write(file.fileno(), holder.encode())  # not buffered: closing would raise once more, with no name
        _sweep(folder)
        yield


def sweep(runs: Path) -> None:
    """Removes what killed trainings left half-written in the run folders below saved/<name>, but those at work."""
    for lock in runs.glob(f"*/{FILE}"):
        if any(lock.parent.glob("checkpoints/*.partial")):
            with ExitStack() as held:
                file = held.enter_context(open(lock, "a+"))
                if _locked(file):
                    _sweep(lock.parent)


def latest_unsaved(runs: Path) -> Path | None:
    """The newest run folder under saved/<name> that has been begun, but holds no checkpoint."""
    found = [lock.parent for lock in runs.glob(f"*/{FILE}") if not (lock.parent / "checkpoints" / "last.pt").exists()]
    return max(found, key=lambda run: run.name, default=None)


def new_folder(folder: Path) -> Path:
    """Makes a run folder that is nobody else's: runs of one name may start in the same second."""
    for number in itertools.count(1):
        mine = folder if number == 1 else folder.with_name(f"{folder.name}-{number}")
        try:
            mine.mkdir(parents=True)
        except FileExistsError:
            continue
        return mine
    raise AssertionError


def _sweep(folder: Path) -> None:
    for each in (folder, folder / "checkpoints"):
        atomic.sweep(each)


def _locked(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:  # a file system without locks must not cost the run
        click.echo(
            f"warning: {file.name} cannot be locked ({error.strerror}): start no second training there", err=True
        )
    return True
