"""SIGKILL of one rank or of all under torchrun, and of a training while it validates: the same weights at the end."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.faults.conftest import LONG
from tests.faults.ledger import Tally
from tests.shard_folder import smooth_scene, write_shards
from tests.train.forks import Forks
from tests.train.test_killed import _children, assert_same, outcome, steps_done, torchrun, write_recipe

Start = Callable[[str, str], Tally]

pytestmark = pytest.mark.skipif(not LONG, reason="in the long part: make faults")


def same(whole: Path, cut: Path) -> bool:
    """Whether both runs logged the same losses and left the same checkpoints, bit for bit."""
    (expected, expected_losses), (found, losses) = outcome(whole), outcome(cut)
    try:
        assert_same(found, expected)
    except AssertionError:
        return False
    return losses == expected_losses and not list(cut.parent.rglob("*.partial"))


def until(seen: Callable[[], object], log: Path) -> None:
    patience = time.monotonic() + 300
    while not seen():
        assert time.monotonic() < patience, log.read_text()
        time.sleep(0.01)


def test_under_torchrun(toy: Path, tmp_path: Path, tally: Start) -> None:
    """One rank: torchrun starts both anew. torchrun and its ranks at once: the same command is given again."""
    steps, draw, shared = 40, random.Random(13), set(os.listdir("/dev/shm"))
    whole, cut = (write_recipe(tmp_path / name / "r.yaml", toy, steps, batch_size=2) for name in ("whole", "cut"))
    log = cut.with_suffix(".log")
    assert torchrun(whole).wait() == 0, whole.with_suffix(".log").read_text()
    one = tally("Kill", "one rank under torchrun, which starts all anew; weights and losses bit for bit")
    all_of_them = tally(
        "Kill", "torchrun and all its ranks, started again by hand; the same, no process or memory stays"
    )
    process = torchrun(cut)
    for number, goal in enumerate((4, 9, 13, 17, 21, 26, 30, 34)):
        until(lambda goal=goal: steps_done(cut) >= goal or process.poll() is not None, log)  # noqa: B023
        assert process.poll() is None, log.read_text()
        time.sleep(draw.uniform(0, 0.1))
        ranks = _children(process.pid)
        if number % 2 == 0:
            os.kill(ranks[number // 2 % 2], signal.SIGKILL)
            until(lambda ranks=ranks: not set(ranks) & set(_children(process.pid)), log)  # noqa: B023
            one.survived += 1
            continue
        for pid in (process.pid, *ranks):
            os.kill(pid, signal.SIGKILL)
        process.wait()
        until(lambda ranks=ranks: not any(Path(f"/proc/{rank}").exists() for rank in ranks), log)
        all_of_them.check(set(os.listdir("/dev/shm")) <= shared, "shared memory stays")
        process = torchrun(cut)
    assert process.wait() == 0, log.read_text()
    for count in (one, all_of_them):
        count.check(same(whole, cut), "other weights or losses at the end")


def validating(recipe: Path, step: int) -> bool:
    """Whether the newest run has logged this step and not yet its validation."""
    logs = sorted(recipe.parent.glob("saved/r/*/log.jsonl"))
    lines = logs[-1].read_text().splitlines() if logs else []
    kinds = [(line["kind"], line["step"]) for line in map(json.loads, filter(complete, lines))]
    return ("train", step) in kinds and ("val", step) not in kinds


def complete(line: str) -> bool:
    return line.endswith("}")


def test_while_validating(tmp_path: Path, tally: Start) -> None:
    """Between the last step's line in the log and its validation's, which takes most of the time here."""
    sizes = [(96, 128), (112, 112), (128, 96)]
    train = [smooth_scene(*sizes[number % 3], seed=number) for number in range(12)]
    val = [smooth_scene(*sizes[number % 3], seed=100 + number) for number in range(40)]
    data = write_shards(tmp_path / "data", {"train": train, "val": val})
    kills, draw = 8, random.Random(19)
    count = tally("Kill", "while it validates; weights and losses bit for bit")
    whole, cut = (write_recipe(tmp_path / name / "r.yaml", data, kills + 2) for name in ("whole", "cut"))
    for recipe in (whole, cut):
        raw = yaml.safe_load(recipe.read_text())
        raw["train"]["val_every_steps"] = 1
        recipe.write_text(yaml.safe_dump(raw))
    with Forks() as forks:
        forks.start(whole)
        assert forks.wait() == 0, whole.with_suffix(".log").read_text()
        for number in range(kills):
            pid = forks.start(cut)
            until(lambda step=number + 1: steps_done(cut) >= step or validating(cut, step), cut.with_suffix(".log"))
            time.sleep(draw.uniform(0, 0.15))
            hit = validating(cut, number + 1)
            os.kill(pid, signal.SIGKILL)
            ended = forks.wait()
            if hit:
                count.check(ended == -signal.SIGKILL, f"kill {number}: {ended}")
        forks.start(cut)
        assert forks.wait() == 0, cut.with_suffix(".log").read_text()
    assert count.trials >= kills // 2, "most kills came after the validation"
    count.check(same(whole, cut), "other weights or losses at the end")
