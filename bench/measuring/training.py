"""A whole training as a user starts it: `python -m train`, on several GPUs under torchrun."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType

import click
import torch

from ingest.errors import UserError
from train import config
from train.checkpoints import checkpoint

# Trains a recipe with overrides and a run name; the folder of its finished run.
Train = Callable[[str, Sequence[str], str], Path]


def command(recipe: str, overrides: Sequence[str]) -> list[str]:
    """The words of the command line: one process a GPU, a single one without."""
    gpus = torch.cuda.device_count()
    start = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(gpus)] if gpus > 1 else []
    return [sys.executable, *start, "-m", "train", "--cfg", recipe, *overrides]


def in_process(recipe: str, overrides: Sequence[str], name: str) -> Path:
    """Trains, going on with a run of that name that was interrupted; its folder.

    UserError where it fails; click.Abort where a signal stopped it, so that the caller begins no further run.
    """
    output = config.load(recipe, list(overrides)).output
    code = _wait(command(recipe, [*overrides, f"name={name}", "--resume", "auto"]))
    if code < 0 or code > 128:
        raise click.Abort
    if code:
        raise UserError(f"the run {name} failed, see above")
    folder = checkpoint.latest_run(Path(output) / name)
    assert folder is not None, "a run that ends well has a checkpoint"
    return folder


def _wait(words: Sequence[str]) -> int:
    """Runs it to its end; the exit code. Ctrl-C reaches it by itself, SIGTERM is passed on: it then saves and ends."""
    process = subprocess.Popen(words)

    def pass_on(number: int, _: FrameType | None) -> None:
        if number == signal.SIGTERM:
            process.terminate()

    before = {number: signal.signal(number, pass_on) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        return process.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
