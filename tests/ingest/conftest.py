"""A small raw folder with its spec, and the command line as users call it."""

from __future__ import annotations

import contextlib
import io
import subprocess
import sys
import unittest.mock
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

STDIN = io.StringIO  # what `quick` reads from: no terminal
SPEC = """
name: tiny
classes: [sky, road, car]
ignore: [9]
splits:
  train: {images: "img/train/*.jpg", labels: "lbl/train/*.png"}
  val: {images: "img/val/*.jpg", labels: "lbl/val/*.png"}
"""


def write_pair(folder: Path, split: str, stem: str, seed: int, hw: tuple[int, int] = (24, 32)) -> None:
    """A JPEG of noise and a mask of 0..2 with some 9."""
    rng = np.random.default_rng(seed)
    for kind in ("img", "lbl"):
        (folder / kind / split).mkdir(parents=True, exist_ok=True)
    image = rng.integers(0, 256, (*hw, 3), dtype=np.uint8)
    label = rng.choice(np.array([0, 1, 2, 9], np.uint8), hw)
    Image.fromarray(image).save(folder / "img" / split / f"{stem}.jpg")
    Image.fromarray(label).save(folder / "lbl" / split / f"{stem}.png")


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """Ten train and four val pairs below tmp_path/raw, with dataset.yaml."""
    folder = tmp_path / "raw"
    for number in range(14):
        write_pair(folder, "train" if number < 10 else "val", f"scene_{number:02d}", number)
    (folder / "dataset.yaml").write_text(SPEC)
    return folder


@pytest.fixture
def ingest() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs `python -m ingest ...` as a user would."""

    def call(*words: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "ingest", *map(str, words)]
        return subprocess.run(command, capture_output=True, text=True, timeout=120)

    return call


@pytest.fixture
def quick() -> Callable[..., subprocess.CompletedProcess[str]]:
    """The same within this process and with one worker: no start of an interpreter for each of many small cases."""
    from ingest.__main__ import main
    from ingest.errors import run

    def call(*words: object) -> subprocess.CompletedProcess[str]:
        out, err = io.StringIO(), io.StringIO()
        args = [*map(str, words), *(["--workers", "1"] if words[0] in ("folder", "voc") else [])]
        with (
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
            unittest.mock.patch.object(sys, "argv", ["ingest", *args]),
            unittest.mock.patch.object(sys, "stdin", STDIN()),
            pytest.raises(SystemExit) as ended,
        ):
            run(main, "python -m ingest")
        code = ended.value.code
        assert isinstance(code, int)
        return subprocess.CompletedProcess(args, code, out.getvalue(), err.getvalue())

    return call
