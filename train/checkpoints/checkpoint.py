"""Checkpoints: written whole or not at all, read without running code, and never trusted blindly.

A checkpoint is a zip file as torch writes it. The file's comment holds a sha256 of all the bytes before it, so that a
single flipped bit is noticed: torch itself does not check what it reads. Files without it, from before it was written,
are checked by the CRC of each entry.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import re
import shutil
import warnings
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any, cast

import click
import torch

from ingest.errors import UserError
from ingest.shards import atomic
from train import torchrun
from train.checkpoints import contents
from train.checkpoints.state import State

FORMAT = "segrail-checkpoint-1"

_DIGEST = b"segrail-sha256:"
_COMMENT_LENGTH = 2  # bytes at the end of a zip file without a comment: its length, which is 0


def save(path: Path, state: Mapping[str, Any]) -> None:
    """Writes `state` (tensors and plain values) so that `path` holds either the old checkpoint or the new, whole one.

    Raises OSError (a full disk, say); the old file then stands untouched and nothing is left beside it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic.opened(path) as file:
        stream = _Signed(file)
        try:
            torch.save({"format": FORMAT, **state}, cast(IO[bytes], stream))
            stream.sign()
        except RuntimeError:
            if stream.error is not None:
                raise stream.error from None
            raise


def link(existing: Path, path: Path) -> None:
    """Gives a checkpoint another name, atomically: a hard link where the file system has them, else a copy.

    Checkpoints are replaced, never changed, so that the one name's file stays when the other gets a new one. Raises
    OSError.
    """
    with atomic.replacing(path) as partial:
        try:
            os.link(existing, partial)
        except OSError:
            shutil.copyfile(existing, partial)


def in_folder(path: Path, names: Sequence[str] = ("best", "last")) -> Path:
    """The first of these checkpoints in a run folder, or in its checkpoints folder; any other path as it is.

    UserError where the folder holds none of them.
    """
    if not path.is_dir():
        return path
    for folder in (path, path / "checkpoints"):
        for name in names:
            if (folder / f"{name}.pt").is_file():
                return folder / f"{name}.pt"
    runs = sorted(str(last.parent.parent) for last in path.glob("*/checkpoints/last.pt"))
    hint = f", such as {runs[-1]}" if runs else ""
    raise UserError(
        f"{path} is a folder without {' or '.join(f'{name}.pt' for name in names)}: give a checkpoint or a run folder"
        f"{hint}"
    )


def load(path: str | Path, device: torch.device | str = "cpu") -> State:
    """Reads a checkpoint. UserError when it is missing, damaged, or no checkpoint of ours."""
    path = Path(path)
    if not path.is_file():
        raise UserError(f"checkpoint {path} does not exist: give a .pt file from saved/<name>/<time>/checkpoints")
    with open(path, "rb") as file:
        whole = _whole(file)
        if whole is False:
            raise UserError(f"{path} is damaged: its bytes are not those that were written; {_others(path)}")
        file.seek(0)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of old formats: one line is enough
                # weights_only: a pickle that would run code is refused
                state = torch.load(file, map_location=device, weights_only=True)
        except pickle.UnpicklingError as error:
            raise UserError(
                f"{path} is no checkpoint of segrail: it holds more than tensors and plain values, and is not read, "
                "since such a file can run code; use another one"
            ) from error
        except Exception as error:  # readers of a damaged file raise any kind of error
            raise UserError(f"{path} is no checkpoint of segrail, or is damaged; {_others(path)}") from error
    if whole is None and isinstance(state, dict):  # torch is more lenient than what could have checked it
        raise UserError(f"{path} is damaged, or no checkpoint of segrail; {_others(path)}")
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        found = state.get("format") if isinstance(state, dict) else type(state).__name__
        raise UserError(f"{path} is no checkpoint of segrail (format {found!r}, expected {FORMAT!r})")
    return cast(State, state)


def load_net(path: str | Path, device: torch.device | str = "cpu") -> State:
    """Reads a checkpoint, which must hold a net and what it was trained on. UserError as `load`.

    Of a run folder best.pt is taken, else last.pt, and that is said.
    """
    found = in_folder(Path(path))
    if found != Path(path) and torchrun.is_main():
        click.echo(f"checkpoint: {found}", err=True)
    path = found
    state = load(path, device)
    if missing := [key for key in ("model", "config", "dataset", "step") if key not in state]:
        raise UserError(f"{path} is no whole checkpoint: it holds no {', '.join(missing)}; use another one")
    if reason := contents.fault(state):
        raise UserError(f"{path} is no whole checkpoint: {reason}; use another one")
    return state


def latest_run(runs: Path) -> Path | None:
    """The newest run folder under saved/<name> that holds a checkpoint to go on from."""
    found = [last.parent.parent for last in runs.glob("*/checkpoints/last.pt")]
    return max(found, key=lambda run: run.name, default=None)


class _Signed:
    """A file that torch.save writes to: takes the digest as the bytes pass, and remembers why one could not be written.

    (torch turns a full disk into a RuntimeError about its zip.)
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self._digest, self._held = file, hashlib.sha256(), b""
        self.error: OSError | None = None

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        if len(view) < _COMMENT_LENGTH:
            view = memoryview(self._held + bytes(view))
            self._held = b""
        cut = max(0, len(view) - _COMMENT_LENGTH)
        self._put(self._held)
        self._put(view[:cut])
        self._held = bytes(view[cut:])
        return len(data)

    def flush(self) -> None:
        self._file.flush()

    def sign(self) -> None:
        """Writes the zip file's comment, in place of none."""
        if self._held == bytes(_COMMENT_LENGTH):
            comment = _DIGEST + self._digest.hexdigest().encode()
            self._held = len(comment).to_bytes(_COMMENT_LENGTH, "little") + comment
        self._put(self._held)
        self._held = b""

    def _put(self, data: bytes | memoryview) -> None:
        self._digest.update(data)
        try:
            self._file.write(data)
        except OSError as error:
            self.error = error
            raise


def _whole(file: IO[bytes]) -> bool | None:
    """Whether the bytes are those that were written: by our digest, else by the zip file's CRCs; None: no zip file."""
    size = file.seek(0, os.SEEK_END)
    tail = len(_DIGEST) + 64
    file.seek(max(0, size - tail))
    signed = re.fullmatch(re.escape(_DIGEST) + rb"([0-9a-f]{64})", file.read())
    file.seek(0)
    if signed is None:
        try:
            with zipfile.ZipFile(file) as archive:
                return archive.testzip() is None
        except Exception:  # zipfile raises many kinds on a damaged file
            return None
    digest, left = hashlib.sha256(), size - tail - _COMMENT_LENGTH
    while left > 0 and (part := file.read(min(left, 1 << 20))):
        digest.update(part)
        left -= len(part)
    return digest.hexdigest().encode() == signed[1]


def _others(path: Path) -> str:
    """What to do about a damaged checkpoint: the names of those beside it, its other names left out."""
    others = sorted(other.name for other in path.parent.glob("*.pt") if not other.samefile(path))
    return f"use another one, such as {', '.join(others[:3])} beside it" if others else "use another one"
