"""Checkpoints: written atomically, read without running code, and never trusted blindly."""

from __future__ import annotations

import os
import pickle
import shutil
import warnings
from pathlib import Path
from typing import IO, Any, cast

import torch

from ingest.errors import UserError

FORMAT = "segrail-checkpoint-1"


def save(path: Path, state: dict[str, Any]) -> None:
    """Writes `state` (tensors and plain values) so that `path` holds either the old checkpoint or the new, whole one.

    Raises OSError (a full disk, say); the old file then stands untouched and nothing is left beside it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    try:
        with open(partial, "wb") as file:
            disk = _Disk(file)
            try:
                torch.save({"format": FORMAT, **state}, cast(IO[bytes], disk))
            except RuntimeError:
                if disk.error is not None:
                    raise disk.error from None
                raise
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
        _sync_folder(path.parent)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def link(existing: Path, path: Path) -> None:
    """Gives a checkpoint another name, atomically: a hard link where the file system has them, else a copy.

    Checkpoints are replaced, never changed, so that the one name's file stays when the other gets a new one. Raises
    OSError.
    """
    partial = path.with_name(path.name + ".partial")
    try:
        partial.unlink(missing_ok=True)
        try:
            os.link(existing, partial)
        except OSError:
            shutil.copyfile(existing, partial)
            with open(partial, "rb") as file:
                os.fsync(file.fileno())
        os.replace(partial, path)
        # Two names of one file: rename would leave `partial` standing.
        partial.unlink(missing_ok=True)
        _sync_folder(path.parent)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def load(path: str | Path, device: torch.device | str = "cpu") -> dict[str, Any]:
    """Reads a checkpoint. UserError when it is missing, damaged, or no checkpoint of ours."""
    path = Path(path)
    if not path.is_file():
        raise UserError(f"checkpoint {path} does not exist: give a .pt file from saved/<name>/<time>/checkpoints")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of old formats: one line is enough
            # weights_only: a pickle that would run code is refused
            state = torch.load(path, map_location=device, weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserError(
            f"{path} is no checkpoint of segrail: it holds more than tensors and plain values, and is not read, since "
            "such a file can run code; use another one"
        ) from error
    except Exception as error:  # what reads a damaged file stumbles in any way
        raise UserError(f"{path} is no checkpoint of segrail, or is damaged; use another one") from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        found = state.get("format") if isinstance(state, dict) else type(state).__name__
        raise UserError(f"{path} is no checkpoint of segrail (format {found!r}, expected {FORMAT!r})")
    return state


def load_net(path: str | Path, device: torch.device | str = "cpu") -> dict[str, Any]:
    """Reads a checkpoint, which must hold a net and what it was trained on. UserError as `load`."""
    state = load(path, device)
    if missing := [key for key in ("model", "config", "dataset", "step") if key not in state]:
        raise UserError(f"{path} is no whole checkpoint: it holds no {', '.join(missing)}; use another one")
    return state


def latest_run(runs: Path) -> Path | None:
    """The newest run folder under saved/<name> that holds a checkpoint to go on from."""
    found = [last.parent.parent for last in runs.glob("*/checkpoints/last.pt")]
    return max(found, key=lambda run: run.name, default=None)


class _Disk:
    """A file that remembers why it could not be written: torch.save turns that into a RuntimeError about its zip."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.error: OSError | None = None

    def write(self, data: Any) -> int:
        try:
            return self._file.write(data)
        except OSError as error:
            self.error = error
            raise

    def flush(self) -> None:
        self._file.flush()


def _sync_folder(folder: Path) -> None:
    # The rename itself must reach the disk, or a power cut could bring the old name back.
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
