"""SIGKILL at random moments; the same command is run again: the outcome is as if nothing had happened."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.conftest import ROOT
from tests.faults.ledger import Tally
from tests.ingest.conftest import SPEC, write_pair
from tests.train.forks import Forks
from tests.train.test_killed import assert_same, kill_again_and_again, outcome, write_recipe
from train.checkpoints import checkpoint

Start = Callable[[str, str], Tally]
Many = Callable[[int, int], int]


def group(pid: int) -> list[int]:
    """Living processes of the process group, zombies left out."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, pgrp = stat.read_text().rpartition(") ")[2].split()[:3]
        except OSError:
            continue
        if int(pgrp) == pid and state != "Z":
            found.append(int(stat.parent.name))
    return sorted(found)


def gone(pid: int) -> bool:
    """Whether all of the group end by themselves within seconds."""
    patience = time.monotonic() + 20
    while group(pid):
        if time.monotonic() > patience:
            os.killpg(pid, signal.SIGKILL)
            return False
        time.sleep(0.02)
    return True


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def kill(process: subprocess.Popen[bytes], target: str, draw: random.Random) -> None:
    """Of the process's group: one worker, the parent, or all."""
    members = group(process.pid)
    if target == "group":
        os.killpg(process.pid, signal.SIGKILL)
    elif target == "worker" and len(members) > 1:
        os.kill(draw.choice([pid for pid in members if pid != process.pid]), signal.SIGKILL)
    else:
        process.kill()


def test_ingest(tmp_path: Path, tally: Start, many: Many) -> None:
    raw = tmp_path / "raw"
    for number in range(60):
        write_pair(raw, "train" if number < 50 else "val", f"s{number:02d}", number, (120, 160))
    (raw / "dataset.yaml").write_text(SPEC)
    shared = set(os.listdir("/dev/shm"))
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}

    def start(resume: bool = True) -> subprocess.Popen[bytes]:
        words = ["folder", raw, "--spec", raw / "dataset.yaml", "--shard-size", "100kB", "--workers", 2]
        line = [sys.executable, "-m", "ingest", *words, "--out", tmp_path / "out", *(["--resume"] if resume else [])]
        quiet = subprocess.DEVNULL
        return subprocess.Popen(
            [str(word) for word in line], cwd=ROOT, env=environment, stdout=quiet, stderr=quiet, start_new_session=True
        )

    begun = time.monotonic()
    assert start().wait(120) == 0
    took = time.monotonic() - begun
    expected, draw = content(tmp_path / "out"), random.Random(3)
    count = tally("Kill", "ingest: a worker, the parent or the group; shards byte for byte, no process or memory stays")
    for trial in range(many(2, 24)):
        target = ("group", "worker", "parent")[trial % 3]
        subprocess.run(["rm", "-rf", tmp_path / "out", tmp_path / "out.partial"], check=True)
        process = start()
        try:
            process.wait(draw.uniform(0.1, 0.95) * took)
        except subprocess.TimeoutExpired:
            kill(process, target, draw)
        process.wait(60)
        orphans = not gone(process.pid)
        half = (tmp_path / "out").exists() and not (tmp_path / "out" / "dataset.json").exists()
        code = 0 if (tmp_path / "out").exists() else start().wait(120)
        same = content(tmp_path / "out") == expected if code == 0 else False
        clean = not (tmp_path / "out.partial").exists() and set(os.listdir("/dev/shm")) <= shared
        what = f"{target}, trial {trial}: code {code}, half {half}, same {same}, clean {clean}, orphans {orphans}"
        count.check(code == 0 and same and clean and not half and not orphans, what)


def test_training(toy: Path, tmp_path: Path, tally: Start, many: Many) -> None:
    """Moments drawn over steps, checkpoints and validations; all checkpoints and losses are compared bit for bit."""
    if not many(0, 1):
        pytest.skip("in the long part: make faults; two kills are in tests/train/test_killed.py")
    kills, steps = 24, 60
    count = tally(
        "Kill", "training: kills at random steps, checkpoints and validations; weights and losses bit for bit"
    )
    whole, cut = (write_recipe(tmp_path / name / "r.yaml", toy, steps) for name in ("whole", "cut"))
    with Forks() as forks:
        forks.start(whole)
        assert forks.wait() == 0
        hits = kill_again_and_again(forks, cut, kills, steps, seed=11)
        forks.start(cut)
        assert forks.wait() == 0, cut.with_suffix(".log").read_text()
    (expected, expected_losses), (found, losses) = outcome(whole), outcome(cut)
    assert hits == kills and losses == expected_losses
    assert_same(found, expected)
    count.survived += hits
    count.check(not list((tmp_path / "cut").rglob("*.partial")), "a half-written file stays")


SAVER = """
import sys, torch
from pathlib import Path
from train.checkpoints import checkpoint
state = {"model": {"w": torch.full((400, 1000), 1.0)}, "step": 0}
print("ready", flush=True)
while True:
    state["step"] += 1
    state["model"]["w"].fill_(state["step"])
    checkpoint.save(Path(sys.argv[1]), state)
"""


def test_while_a_checkpoint_is_written(tmp_path: Path, tally: Start, many: Many) -> None:
    """What stands under the final name is always a whole checkpoint, of one step."""
    count = tally("Kill", "while a checkpoint is written: the file is whole, of one step")
    draw = random.Random(5)
    path = tmp_path / "last.pt"
    for trial in range(many(1, 10)):
        process = subprocess.Popen([sys.executable, "-c", SAVER, path], cwd=ROOT, stdout=subprocess.PIPE)
        assert process.stdout is not None and process.stdout.readline()
        while not path.exists():
            time.sleep(0.001)
        time.sleep(draw.uniform(0, 0.1))
        process.kill()
        process.wait()
        state = checkpoint.load(path)
        count.check(bool(torch.all(state["model"]["w"] == state["step"])), f"trial {trial}")


def after_a_kill(words: list[str], out: Path, draw: random.Random, took: float) -> bool:
    """Kills the command once, runs it again; whether that succeeds."""
    line = [sys.executable, "-m", *words]
    quiet = subprocess.DEVNULL
    process = subprocess.Popen(line, cwd=ROOT, stdout=quiet, stderr=quiet, start_new_session=True)
    try:
        process.wait(draw.uniform(0.5, 0.98) * took)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    return gone(process.pid) and subprocess.run(line, cwd=ROOT, stdout=quiet, stderr=quiet).returncode == 0


@pytest.mark.parametrize("name", ["export", "predict"])
def test_export_and_predict(name: str, toy: Path, trained: Path, tmp_path: Path, tally: Start, many: Many) -> None:
    if not many(0, 1):
        pytest.skip("in the long part: make faults")
    count = tally("Kill", f"train.{name}: killed and run again, the same files")
    out, draw = tmp_path / "out", random.Random(9)
    for number in range(6):
        write_pair(tmp_path / "images", "x", str(number), number, (120, 160))
    words = ["train.export", "--checkpoint", str(trained), "--out", str(out / "net.onnx")]
    if name == "predict":
        images = str(tmp_path / "images" / "img" / "x")
        words = ["train.predict", "--checkpoint", str(trained), "--images", images, "--out", str(out)]
    out.mkdir()
    begun = time.monotonic()
    subprocess.run([sys.executable, "-m", *words], cwd=ROOT, check=True, capture_output=True)
    took = time.monotonic() - begun
    expected = {path.relative_to(out): path.read_bytes() for path in out.rglob("*") if path.is_file()}
    for trial in range(5):
        subprocess.run(["rm", "-rf", out], check=True)
        out.mkdir()
        done = after_a_kill(words, out, draw, took)
        found = {path.relative_to(out): path.read_bytes() for path in out.rglob("*") if path.is_file()}
        whole = {path: data for path, data in found.items() if ".partial" not in str(path)}
        same = whole.keys() == expected.keys() and (name == "export" or whole == expected)
        count.check(done and same, f"trial {trial}: done {done}, {sorted(map(str, found))}")


LARGE = """
import sys
from train.predict import scene
scene.MOST_WHOLE = 5000  # pixels: as if the image were one that is too large to be labeled whole
from train.predict.command import command
command()
"""


def test_prediction_goes_on(trained: Path, tmp_path: Path, tally: Start, many: Many) -> None:
    """A large image in windows: killed between two rows of them, it goes on and ends with the same labels."""
    if not many(0, 1):
        pytest.skip("in the long part: make faults")
    count = tally("Kill", "train.predict of a large image: goes on after its last row of windows, the same labels")
    write_pair(tmp_path / "images", "x", "a", 1, (300, 400))
    image, draw = tmp_path / "images" / "img" / "x" / "a.jpg", random.Random(15)

    def start(out: Path) -> subprocess.Popen[bytes]:
        words = ["--checkpoint", trained, "--images", image, "--out", out, "--device", "cpu", "--window", "64"]
        line = [sys.executable, "-c", LARGE, *words, "--stride", "40", "--overlay", "0"]
        return subprocess.Popen([str(word) for word in line], cwd=ROOT, stdout=subprocess.DEVNULL)

    assert start(tmp_path / "whole").wait(300) == 0
    expected = (tmp_path / "whole" / "masks" / "a.png").read_bytes()
    for trial in range(6):
        out = tmp_path / str(trial)
        done, process = out / "unfinished" / "a" / "done.json", start(out)
        while not done.exists() and process.poll() is None:
            time.sleep(0.002)
        time.sleep(draw.uniform(0, 0.3))
        half = done.exists()
        process.kill()
        process.wait()
        code = start(out).wait(300)
        same = code == 0 and (out / "masks" / "a.png").read_bytes() == expected
        count.check(half and same and not done.exists(), f"trial {trial}: killed half way {half}, code {code}, {same}")
