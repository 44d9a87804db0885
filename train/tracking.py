"""What a run writes and shows: log.jsonl, TensorBoard, a progress bar or plain lines. Only the main rank does."""

from __future__ import annotations

import json
import math
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm


class Tracker:
    """Writes a run's numbers and pictures into its folder, and shows them in the terminal.

    folder None: says and writes nothing (the other ranks).
    """

    def __init__(self, folder: Path | None, step: int, total_steps: int) -> None:
        self.folder = folder
        if folder is None:
            return
        # Imported here: TensorBoard takes a second that the other ranks, and --help, need not spend.
        from torch.utils.tensorboard import SummaryWriter

        folder.mkdir(parents=True, exist_ok=True)
        self._board = SummaryWriter(str(folder), purge_step=step)
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
        self._log.write(json.dumps({"time": round(time.time(), 3), "step": step, "kind": kind, **finite}) + "\n")
        for key, value in values.items():
            if math.isfinite(value):
                self._board.add_scalar(f"{kind}/{key}", value, step)

    def show(self, step: int, **values: str) -> None:
        """Short facts beside the progress bar, or as a line; earlier ones stay."""
        if self.folder is None:
            return
        self._shown |= values
        text = "  ".join(f"{key} {value}" for key, value in self._shown.items())
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
            self._board.add_image(name, torch.from_numpy(picture.copy()), step, dataformats="HWC")

    def text(self, name: str, text: str) -> None:
        """A TensorBoard text, shown as code."""
        if self.folder is not None:
            self._board.add_text(name, "    " + text.replace("\n", "\n    "))

    def event(self, step: int, **facts: Any) -> None:
        """A line of log.jsonl that is no curve: start, resume, best, stop."""
        if self.folder is not None:
            facts = {"time": round(time.time(), 3), "step": step, "kind": "event", **facts}
            self._log.write(json.dumps(facts) + "\n")

    def close(self) -> None:
        """Flushes everything to disk."""
        if self.folder is not None:
            self._bar.close()
            self._board.close()
            self._log.close()
