"""Ranks under torchrun: one dies, raises alone, is slow or stands still; uneven data; more and fewer of them."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.conftest import ROOT
from tests.faults.conftest import LONG
from tests.faults.ledger import Tally
from tests.shard_folder import smooth_scene, write_shards
from tests.train.test_killed import _children, assert_same
from tests.train.test_ranks import damaged, recipe, start  # noqa: F401  (fixtures)
from train.checkpoints import checkpoint

Begin = Callable[[str, str], Tally]

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}

pytestmark = pytest.mark.skipif(not LONG, reason="in the long part: make faults")


def steps(text: str) -> int:
    return max((int(number) for number in re.findall(r"step (\d+)/", text)), default=0)


def test_one_dies(start: Any, recipe: Any, tally: Begin) -> None:  # noqa: F811
    count = tally("Ranks", "a rank is killed: the other names it and ends within seconds, without a traceback")
    for victim in (0, 1):
        job = start(recipe)
        job.training()
        os.kill(job.ranks()[victim], signal.SIGKILL)
        begun = time.monotonic()
        code = job.end()
        told = len(job.errors) == 1 and ("rank" in job.errors[0]) and "Traceback" not in job.text.split("error:")[0]
        count.refused(code != 0 and told and time.monotonic() - begun < 60, f"{victim}: {code} {job.errors}")


def test_one_raises_alone(start: Any, recipe: Any, tmp_path: Any, tally: Begin) -> None:  # noqa: F811
    count = tally("Ranks", "a rank meets a broken file alone: both end, the file is named once")
    damaged(recipe, tmp_path)
    job = start(recipe)
    code = job.end()
    count.refused(code != 0 and len(job.errors) == 1 and "train-000001.tar" in job.errors[0], f"{code} {job.errors}")


def test_one_stands_still_for_half_a_minute(start: Any, recipe: Any, tally: Begin) -> None:  # noqa: F811
    count = tally("Ranks", "a rank that stands still for 30 s: training goes on after it")
    job = start(recipe)
    job.training()
    victim = job.ranks()[1]
    os.kill(victim, signal.SIGSTOP)
    time.sleep(30)
    before = steps(job.text)
    os.kill(victim, signal.SIGCONT)
    job.until(lambda: steps(job.text) > before + 20)
    count.check(not job.errors, str(job.errors))


def test_one_dies_while_the_other_waits_for_it(start: Any, recipe: Any, tally: Begin) -> None:  # noqa: F811
    """The other is in a collective, which the dead one will never enter, or has just entered itself."""
    count = tally("Ranks", "a rank dies in a collective: the other names it and ends within seconds")
    for dies in (0, 1):
        job = start(recipe)
        job.training()
        ranks = job.ranks()
        os.kill(ranks[dies], signal.SIGSTOP)
        time.sleep(2)  # the other has come to the next sum of gradients, and waits
        os.kill(ranks[dies], signal.SIGKILL)
        begun = time.monotonic()
        code = job.end()
        named = len(job.errors) == 1 and f"rank {dies}" in job.errors[0]
        count.refused(code != 0 and named and time.monotonic() - begun < 60, f"{dies}: {code} {job.text[-2000:]}")


RAISES = """
import sys
sys.path.insert(0, {root!r})
from train.__main__ import command
from train.entry import run
from train.run import {loop}

step = {loop}.one_step

def once(self, *given):
    if self.ranks.rank == 1 and self.step == 5:
        raise ArithmeticError("of one rank alone")
    return step(self, *given)

{loop}.one_step = once
run(command, "python -m train")
"""


def test_one_raises_what_no_one_foresaw(recipe: Any, tmp_path: Path, tally: Begin) -> None:  # noqa: F811
    count = tally("Ranks", "an error of the program in one rank alone: both end within seconds, it is told once")
    (tmp_path / "r.yaml").write_text(json.dumps(recipe))
    (tmp_path / "raises.py").write_text(RAISES.format(root=str(ROOT), loop="Run"))
    line = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(tmp_path / "raises.py")]
    done = subprocess.run(
        [sys.executable, *line, "--cfg", str(tmp_path / "r.yaml")], cwd=ROOT, env=ENVIRONMENT, capture_output=True,
        text=True, timeout=200,
    )  # fmt: skip
    errors = re.findall(r"^error: .*", done.stderr, re.MULTILINE)
    told = len(errors) == 1 and "ArithmeticError: of one rank alone" in errors[0]
    before, _, torchruns = done.stderr.partition(errors[0] if errors else "error:")  # it adds a traceback of its own
    named = re.search(r"Root Cause.*rank +: 1 .*ArithmeticError", torchruns, re.DOTALL)
    count.refused(done.returncode != 0 and told and before.count("Traceback") == 1 and bool(named), done.stderr[-3000:])


UNWINDS_SLOWLY = """
import sys, time
sys.path.insert(0, {root!r})
from train.__main__ import command
from train.entry import run
from train.log.tracking import Tracker

close = Tracker.close
Tracker.close = lambda self: (time.sleep(5), close(self))
run(command, "python -m train")
"""


def test_the_reason_comes_before_torchruns_signal(recipe: Any, tmp_path: Path, tally: Begin) -> None:  # noqa: F811
    """A rank that takes seconds to leave its loop is sent SIGTERM meanwhile, which must not end it without a word."""
    count = tally("Ranks", "a rank dies while the other is slow to end: it is named all the same")
    (tmp_path / "r.yaml").write_text(json.dumps(recipe))
    (tmp_path / "slowly.py").write_text(UNWINDS_SLOWLY.format(root=str(ROOT)))
    line = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(tmp_path / "slowly.py")]
    with open(tmp_path / "log", "wb") as log:
        process = subprocess.Popen(
            [sys.executable, *line, "--cfg", str(tmp_path / "r.yaml")],
            cwd=ROOT,
            env=ENVIRONMENT,
            stdout=log,
            stderr=log,
        )
    patience = time.monotonic() + 200
    while "step 4/" not in (tmp_path / "log").read_text():
        assert time.monotonic() < patience and process.poll() is None, (tmp_path / "log").read_text()
        time.sleep(0.05)
    one = _children(process.pid)[1]
    os.kill(one, signal.SIGKILL)
    code = process.wait(200)
    errors = re.findall(r"^error: .*", (tmp_path / "log").read_text(), re.MULTILINE)
    count.refused(code != 0 and len(errors) == 1 and f"rank 1 (pid {one} on " in errors[0], f"{code} {errors}")


def test_one_is_ten_times_slower(start: Any, recipe: Any, tally: Begin) -> None:  # noqa: F811
    """Stopped nine tenths of the time; the weights are those of two ranks that are equally fast."""
    count = tally("Ranks", "a rank that is ten times slower: the same weights on the last step")
    recipe["train"] |= {"steps": 40, "log_every": 1}
    found = []
    for slow in (False, True):
        recipe["output"] = f"{recipe['output']}-{slow}"
        job = start(recipe)
        job.until(lambda job=job: "step 1/" in job.text)
        (victim,) = job.ranks()[1:]
        while slow and job.process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(victim, signal.SIGSTOP)
                time.sleep(0.09)
                os.kill(victim, signal.SIGCONT)
                time.sleep(0.01)
        assert job.end() == 0, job.text
        (last,) = Path(recipe["output"]).rglob("last.pt")
        found.append(checkpoint.load(last)["model"])
    assert_same(found[0], found[1])
    count.survived += 1


def under_torchrun(ranks: int, *words: object) -> str:
    """What `python -m ...` by so many ranks says on stdout; it must end with 0."""
    agent = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", ranks, "-m"] if ranks > 1 else ["-m"]
    line = [sys.executable, *map(str, [*agent, *words])]
    done = subprocess.run(line, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_uneven_data(recipe: Any, trained: Path, tmp_path: Path, tally: Begin) -> None:  # noqa: F811
    """Splits that the number of ranks does not divide, and one of fewer images than ranks."""
    training = tally("Ranks", "training on samples that the ranks do not divide: it ends on the last step")
    scoring = tally("Ranks", "validation of 1 and 3 images on 2 and 3 ranks: the digits of one rank")
    sizes = [(40, 56), (48, 48), (37, 61)]
    splits = {
        name: [smooth_scene(*sizes[i % 3], seed=i) for i in range(n)] for name, n in (("train", 7), ("a", 1), ("b", 3))
    }
    shards = write_shards(tmp_path / "uneven", splits, per_shard=2)
    recipe["data"] |= {"path": str(shards), "val": "a"}
    recipe["train"] |= {"steps": 7, "val_every_steps": 3}
    for ranks in (2, 3):
        recipe["output"] = str(tmp_path / f"saved{ranks}")
        (tmp_path / "r.yaml").write_text(json.dumps(recipe))
        training.check("step 7/7" in under_torchrun(ranks, "train", "--cfg", tmp_path / "r.yaml"), f"{ranks} ranks")
    words = ["train.evaluate", "--checkpoint", trained, "--data", shards, "--device", "cpu"]
    for split in ("a", "b"):
        found = []
        for ranks in (1, 2, 3):
            under_torchrun(ranks, *words, "--split", split, "--json", tmp_path / "scores.json")
            found.append(json.loads((tmp_path / "scores.json").read_text()))
            del found[-1]["images_per_second"]
        for ranks in (2, 3):
            scoring.check(found[ranks - 1] == found[0], f"{split}, {ranks} ranks")


def test_the_number_of_ranks_changes(recipe: Any, tmp_path: Path, tally: Begin) -> None:  # noqa: F811
    count = tally("Ranks", "2, 1, 4 and 2 ranks in turn: each goes on with the run and its batch to the last step")
    recipe["data"] |= {"batch_size": 4}
    recipe["train"] |= {"val_every_steps": 4}
    (tmp_path / "r.yaml").write_text(json.dumps(recipe))
    words = ["train", "--cfg", tmp_path / "r.yaml", "--resume", "auto"]
    for number, ranks in enumerate((2, 1, 4, 2)):
        last = 4 * number + 4
        said = under_torchrun(ranks, *words, f"train.steps={last}")
        (run,) = Path(recipe["output"], "toy").iterdir()
        state = checkpoint.load(run / "checkpoints" / "last.pt")
        good = state["step"] == last and state["batch"]["global"] == 8 and f"step {last}/{last}" in said
        weights = [value for value in state["model"].values() if value.is_floating_point()]
        count.check(
            good and all(bool(torch.isfinite(value).all()) for value in weights), f"{ranks} ranks: {said[-500:]}"
        )
