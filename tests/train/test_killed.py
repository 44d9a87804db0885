"""SIGKILL at random moments, also in the middle of a checkpoint: the run that goes on ends where none was killed."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from tests.conftest import ROOT
from tests.train.forks import Forks
from train.checkpoints import checkpoint

TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "--max-restarts", "9"]


def write_recipe(path: Path, toy: Path, steps: int, batch_size: int = 4) -> Path:
    """A tiny net with all that must survive: moments, average, schedule, best and kept ones, threads of the loader."""
    raw = {
        "name": "r",
        "output": str(path.parent / "saved"),
        "data": {"path": str(toy), "batch_size": batch_size, "threads": 2},
        "augment": {"crop": [32, 32], "base_size": 48},
        "net": {"name": "enet"},
        "optimizer": {"name": "adamw", "lr": 0.005},
        "schedule": {"name": "onecycle"},
        "train": {
            "steps": steps,
            "val_every_steps": 5,
            "save_every_steps": 1,
            "log_every": 1,
            "keep_best": 2,
            "keep_every_steps": 4,
            "ema": 0.9,
            "train_miou": True,
            "pictures": 1,
            "device": "cpu",
        },
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(raw))
    return path


def torchrun(recipe: Path) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, *TORCHRUN, "-m", "train", "--cfg", str(recipe), "--resume", "auto"]
    log = open(recipe.with_suffix(".log"), "ab")  # noqa: SIM115 (the child's)
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)


def steps_done(recipe: Path) -> int:
    """The last step in the newest run's log; 0 before there is one."""
    logs = sorted(recipe.parent.glob("saved/r/*/log.jsonl"))
    lines = logs[-1].read_bytes().splitlines() if logs else []
    return json.loads(lines[-2])["step"] if len(lines) > 1 else 0  # the last line may be half written


def kill_again_and_again(forks: Forks, recipe: Path, kills: int, last_step: int, seed: int) -> int:
    """Starts the run, kills it a few steps on, and so forth. Returns how many kills hit a running training."""
    draw = random.Random(seed)
    hits = 0
    for _ in range(kills):
        pid = forks.start(recipe)
        # some while it starts, most a few steps on; the delay spreads them over a step, its checkpoint, a validation
        goal = min(steps_done(recipe) + draw.choice([0, 1, 1, 2, 3]), last_step - 1)
        patience = time.monotonic() + 120
        while steps_done(recipe) < goal:
            assert time.monotonic() < patience, recipe.with_suffix(".log").read_text()
            time.sleep(0.003)
        time.sleep(draw.uniform(0, 0.25))
        os.kill(pid, signal.SIGKILL)
        hits += forks.wait() == -signal.SIGKILL
    return hits


def outcome(recipe: Path) -> tuple[dict[str, Any], list[tuple[int, float]]]:
    """All checkpoints of the newest run with one, and its log's (step, loss) lines."""
    run = checkpoint.latest_run(recipe.parent / "saved" / "r")
    assert run is not None
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    losses = [(line["step"], line["loss"]) for line in lines if line["kind"] == "train"]
    assert json.loads((run / "validation.json").read_text())["step"] == losses[-1][0]
    return {path.name: checkpoint.load(path) for path in (run / "checkpoints").iterdir()}, losses


def assert_same(a: Any, b: Any, where: str = "") -> None:
    """Bit for bit, through all containers."""
    if isinstance(a, torch.Tensor):
        assert torch.equal(a, b), where
    elif isinstance(a, dict):
        assert a.keys() == b.keys(), where
        for key in a:
            if key not in ("config", "versions"):  # config: the output folder differs
                assert_same(a[key], b[key], f"{where}/{key}")
    elif isinstance(a, (list, tuple)):
        assert len(a) == len(b), where
        for index, (one, two) in enumerate(zip(a, b, strict=True)):
            assert_same(one, two, f"{where}/{index}")
    else:
        assert a == b, where


def check(toy: Path, tmp_path: Path, kills: int, steps: int) -> None:
    whole = write_recipe(tmp_path / "whole" / "r.yaml", toy, steps)
    cut = write_recipe(tmp_path / "cut" / "r.yaml", toy, steps)
    with Forks() as forks:
        forks.start(whole)
        assert forks.wait() == 0, whole.with_suffix(".log").read_text()
        hits = kill_again_and_again(forks, cut, kills, steps, seed=7)
        assert hits == kills, "a run ended before it was killed: give it more steps"
        forks.start(cut)
        assert forks.wait() == 0, cut.with_suffix(".log").read_text()
    (expected, expected_losses), (found, losses) = outcome(whole), outcome(cut)
    assert losses == expected_losses and [step for step, _ in losses] == list(range(1, steps + 1))
    assert "last.pt" in found and "best.pt" in found and f"step-{steps // 4 * 4}.pt" in found
    assert_same(found, expected)


def test_two_kills_do_not_show(toy: Path, tmp_path: Path) -> None:
    check(toy, tmp_path, kills=2, steps=9)


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_twenty_kills_do_not_show(toy: Path, tmp_path: Path) -> None:
    check(toy, tmp_path, kills=20, steps=60)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_killed_workers_of_torchrun_do_not_show(toy: Path, tmp_path: Path) -> None:
    """torchrun starts all ranks anew when one dies; they go on from the last checkpoint."""
    steps = 24
    whole = write_recipe(tmp_path / "whole" / "r.yaml", toy, steps, batch_size=2)
    assert torchrun(whole).wait() == 0, whole.with_suffix(".log").read_text()
    cut = write_recipe(tmp_path / "cut" / "r.yaml", toy, steps, batch_size=2)
    process = torchrun(cut)
    draw, patience = random.Random(3), time.monotonic() + 600
    for number, goal in enumerate((4, 9, 15)):
        while steps_done(cut) < goal:
            assert process.poll() is None and time.monotonic() < patience, cut.with_suffix(".log").read_text()
            time.sleep(0.01)
        time.sleep(draw.uniform(0, 0.1))
        ranks = _children(process.pid)
        os.kill(ranks[number % len(ranks)], signal.SIGKILL)
        while set(ranks) & set(_children(process.pid)):  # until torchrun has ended the others
            time.sleep(0.05)
    assert process.wait() == 0, cut.with_suffix(".log").read_text()
    (expected, expected_losses), (found, losses) = outcome(whole), outcome(cut)
    assert losses == expected_losses
    assert_same(found, expected)


def _children(pid: int) -> list[int]:
    """torchrun's ranks, in order; its threads may have started them."""
    found = [path.read_text().split() for path in Path(f"/proc/{pid}/task").glob("*/children")]
    return sorted(int(child) for children in found for child in children)
