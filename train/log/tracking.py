"""What a run writes and shows: log.jsonl, TensorBoard, a progress bar or plain lines. Only the main rank does."""

from __future__ import annotations

import json
import math
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm.auto import tqdm

from ingest.shards import atomic


class Tracker:
    """Writes a run's numbers and pictures into its folder, and shows them in the terminal.

    folder None: says and writes nothing (the other ranks). A run that goes on from a step before the end of its log
    (it was killed) cuts the log there, so that each step is in it once. A disk that is full costs lines, not the run.
    """

    def __init__(self, folder: Path | None, step: int, total_steps: int, unvalidated: bool = False) -> None:
        """unvalidated: the validation of `step` is still to come; what a killed run wrote of it is cut, too."""
        self.folder = folder
        if folder is None:
            return
        # Imported here: TensorBoard takes a second that the other ranks, and --help, need not spend.
        from torch.utils.tensorboard import SummaryWriter

        folder.mkdir(parents=True, exist_ok=True)
        self._warned = False
        self._board = SummaryWriter(str(folder), purge_step=step + 1)
        self._other_hook = threading.excepthook
        threading.excepthook = self._in_thread
        self._dare(lambda: _cut(folder / "log.jsonl", step, unvalidated))
        self._log = open(folder / "log.jsonl", "a", buffering=1)  # noqa: SIM115 (closed in close)
        self._total = total_steps
        self._shown: dict[str, str] = {}
        # A terminal gets a bar, a file plain lines.
        self._bar = tqdm(total=total_steps, initial=step, unit="step", dynamic_ncols=True, disable=None, smoothing=0.05)
        self._plain = bool(self._bar.disable)

    def advance(self) -> None:
        """One step done."""
        if self.folder is not None:
            self._bar.update()

    def scalars(self, step: int, kind: str, values: dict[str, float]) -> None:
        """One line of log.jsonl and one point of each TensorBoard curve `<kind>/<name>`."""
        if self.folder is None:
            return
        finite = {key: value if math.isfinite(value) else None for key, value in values.items()}
        self._line({"step": step, "kind": kind, **finite})
        self._dare(lambda: self._points(step, kind, values))

    def show(self, step: int, **values: str) -> None:
        """Short facts beside the progress bar, where earlier ones stay, or as a line of their own."""
        if self.folder is None:
            return
        self._shown |= values
        facts = values if self._plain else self._shown
        text = "  ".join(f"{key} {value}" for key, value in facts.items())
        if self._plain:
            print(f"step {step}/{self._total}  {text}", flush=True)
        else:
            self._bar.set_postfix_str(text)

    def say(self, text: str) -> None:
        """A line that stays, above the bar."""
        if self.folder is not None:
            tqdm.write(text, file=sys.stdout)
            sys.stdout.flush()

    def picture(self, step: int, name: str, picture: np.ndarray) -> None:
        """A TensorBoard image, uint8 [H, W, 3]."""
        if self.folder is not None:
            image = torch.from_numpy(picture.copy())
            self._dare(lambda: self._board.add_image(name, image, step, dataformats="HWC"))

    def text(self, name: str, text: str) -> None:
        """A TensorBoard text, shown as code."""
        if self.folder is not None:
            indented = "    " + text.replace("\n", "\n    ")
            self._dare(lambda: self._board.add_text(name, indented))

    def event(self, step: int, **facts: Any) -> None:
        """A line of log.jsonl that is no curve: start, resume, best, stop."""
        if self.folder is not None:
            self._line({"step": step, "kind": "event", **facts})

    def close(self) -> None:
        """Flushes everything to disk."""
        if self.folder is not None:
            self._bar.close()
            self._dare(self._board.close)
            self._dare(self._log.close)
            threading.excepthook = self._other_hook

    def _in_thread(self, failed: threading.ExceptHookArgs) -> None:
        """TensorBoard writes in a thread: a full disk there is reported by `_dare`, without a traceback."""
        if not (isinstance(failed.exc_value, OSError) and "tensorboard" in type(failed.thread).__module__):
            self._other_hook(failed)

    def _points(self, step: int, kind: str, values: dict[str, float]) -> None:
        for key, value in values.items():
            if math.isfinite(value):
                self._board.add_scalar(f"{kind}/{key}", value, step)

    def _line(self, facts: dict[str, Any]) -> None:
        line = json.dumps({"time": round(time.time(), 3), **facts}) + "\n"
        self._dare(lambda: self._log.write(line))

    def _dare(self, write: Callable[[], Any]) -> None:
        """Writes; where the disk refuses, says so once."""
        try:
            write()
        except OSError as error:
            if not self._warned:
                self._warned = True
                self.say(f"warning: log and curves in {self.folder} are not complete ({error.strerror}). Going on.")


def _cut(log: Path, step: int, unvalidated: bool) -> None:
    """Leaves of a log the whole lines up to `step`: what a killed run wrote after its last checkpoint comes again."""
    if not log.is_file():
        return
    lines = log.read_text().splitlines(keepends=True)
    kept = [line for line in lines if _is_up_to(line, step, unvalidated)]
    if len(kept) < len(lines):
        atomic.write_text(log, "".join(kept))


def _is_up_to(line: str, step: int, unvalidated: bool) -> bool:
    try:
        facts = json.loads(line)
        again = unvalidated and facts["step"] == step and (facts["kind"] == "val" or facts.get("what") == "best")
        return line.endswith("\n") and facts["step"] <= step and not again
    except (ValueError, KeyError, TypeError, RecursionError):  # half a line, of a full disk, or one changed by hand
        return False
