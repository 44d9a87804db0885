"""Two ranks under torchrun: one dies, raises alone, or stands still for a while."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.faults.conftest import LONG
from tests.faults.ledger import Tally
from tests.train.test_ranks import damaged, recipe, start  # noqa: F401  (fixtures)

Begin = Callable[[str, str], Tally]

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
