"""Folders that are removed while a command reads or writes them: it ends in one line that names them, or goes on."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import ROOT
from tests.faults.conftest import LONG
from tests.faults.ledger import Tally
from tests.ingest.conftest import SPEC, write_pair
from train.checkpoints import checkpoint

Start = Callable[[str, str], Tally]
SECTION = "Disk and permissions"

pytestmark = pytest.mark.skipif(not LONG, reason="in the long part: make faults")


def begin(*words: object) -> subprocess.Popen[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    line = [sys.executable, "-u", "-m", *map(str, words)]
    pipe = subprocess.PIPE
    return subprocess.Popen(line, cwd=ROOT, env=environment, stdout=pipe, stderr=pipe, text=True)


def removed(folder: Path, once: Callable[[], object], process: subprocess.Popen[str]) -> str:
    """Removes the folder once that is so; what the command then says on stderr. It must still be running."""
    patience = time.monotonic() + 200
    while not once():
        assert process.poll() is None and time.monotonic() < patience, process.communicate()
        time.sleep(0.005)
    while folder.exists():  # a file may be written in it meanwhile
        shutil.rmtree(folder, ignore_errors=True)
    return process.communicate(timeout=280)[1]


def told(said: str, code: int, name: str) -> bool:
    lines = [line for line in said.splitlines() if line.startswith("error")]
    return code == 2 and len(lines) == 1 and name in lines[0] and "Traceback" not in said


@pytest.fixture
def recipe(raw_recipe: dict[str, Any], tmp_path: Path, toy: Path) -> Path:
    """One that trains for long and saves after every step, on shards of its own."""
    shutil.copytree(toy, tmp_path / "shards")
    raw_recipe["data"]["path"] = str(tmp_path / "shards")
    raw_recipe["train"] |= {"steps": 100_000, "val_every_steps": 100_000, "log_every": 1}
    (tmp_path / "r.yaml").write_text(yaml.safe_dump(raw_recipe))
    return tmp_path / "r.yaml"


def test_the_run_folder(recipe: Path, tmp_path: Path, tally: Start) -> None:
    """What was logged is gone; the checkpoints are written anew."""
    count = tally(SECTION, "`train` whose run folder vanishes: it trains on, and its last checkpoint is there, whole")
    process = begin("train", "--cfg", recipe, "train.steps=30")
    said = removed(tmp_path / "saved", lambda: list((tmp_path / "saved").rglob("last.pt")), process)
    found = [checkpoint.load(path)["step"] for path in (tmp_path / "saved").rglob("last.pt")]
    good = process.returncode == 0 and found == [30] and "Traceback" not in said
    count.check(good, f"{process.returncode} {found} {said[-900:]}")


def test_the_shards(recipe: Path, tmp_path: Path, tally: Start) -> None:
    """The files are open and stay readable; what is opened anew, for the validation, is missing."""
    count = tally(SECTION, "`train` whose shards vanish: it trains on, or one line")
    process = begin("train", "--cfg", recipe, "train.steps=30")
    said = removed(tmp_path / "shards", lambda: list((tmp_path / "saved").rglob("last.pt")), process)
    if process.returncode:
        count.refused(told(said, process.returncode, str(tmp_path / "shards")), f"{process.returncode} {said[-900:]}")
    else:
        count.check("Traceback" not in said, said[-900:])


@pytest.mark.parametrize("which", ["raw", "out.partial"])
def test_ingest(which: str, tmp_path: Path, tally: Start) -> None:
    name = {"raw": "images", "out.partial": "half-written shards"}[which]
    count = tally(SECTION, f"`ingest folder` whose {name} vanish: one line, no shard folder")
    for number in range(150):
        write_pair(tmp_path / "raw", "train" if number else "val", f"s{number:03d}", number, (240, 320))
    (tmp_path / "raw" / "dataset.yaml").write_text(SPEC)
    words = ["--spec", tmp_path / "raw" / "dataset.yaml", "--out", tmp_path / "out", "--shard-size", "100kB"]
    process = begin("ingest", "folder", tmp_path / "raw", *words, "--workers", 2)
    said = removed(tmp_path / which, lambda: list((tmp_path / "out.partial").glob("*.tar")), process)
    good = told(said, process.returncode, str(tmp_path)) and not (tmp_path / "out").exists()
    count.refused(good, f"{process.returncode} {said[-900:]}")


def test_predictions(trained: Path, tmp_path: Path, tally: Start) -> None:
    count = tally(SECTION, "`train.predict` whose masks vanish: each file that cannot be written is listed")
    for number in range(60):
        write_pair(tmp_path / "images", "x", f"{number:02d}", number, (240, 320))
    words = ["--images", tmp_path / "images" / "img", "--out", tmp_path / "out", "--device", "cpu"]
    process = begin("train.predict", "--checkpoint", trained, *words)
    said = removed(tmp_path / "out", lambda: list((tmp_path / "out").rglob("*.png")), process)
    good = "Traceback" not in said and str(tmp_path / "out") in said and process.returncode in (1, 2)
    count.refused(good, f"{process.returncode} {said[-900:]}")
