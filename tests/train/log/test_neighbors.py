"""Other programs on our cores: told once, when they keep us waiting; not when they do not, nor when it is ourselves."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.conftest import ROOT
from train.log import neighbors
from train.log.neighbors import Neighbors, Usage


def told(monkeypatch: pytest.MonkeyPatch, others: float, delay: float, ranks: int = 1) -> list[str]:
    """What is said over 10 calls, 2 s apart, when others use so many cores and so many of our threads wait."""

    def moments() -> Iterator[Usage]:
        for at in range(100):
            yield Usage(2.0 * at, (others + ranks) * 2.0 * at, 2.0 * at, delay * 2.0 * at)

    found = moments()
    monkeypatch.setattr(neighbors, "usage", lambda: next(found))
    watch = Neighbors(ranks)
    return [line for line in (watch.line() for _ in range(10)) if line]


def test_a_neighbor_that_keeps_us_waiting_is_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    (line,) = told(monkeypatch, others=1.0, delay=0.5)
    assert "other programs use 1.0 of the" in line and "wait for one 0.5 s of each second" in line


@pytest.mark.parametrize(("others", "delay", "ranks"), [(1.0, 0.0, 1), (0.0, 1.0, 1), (0.0, 1.0, 4)])
def test_nothing_else_is(monkeypatch: pytest.MonkeyPatch, others: float, delay: float, ranks: int) -> None:
    """Idle cores for both; or our own threads, and ranks, in each other's way."""
    assert told(monkeypatch, others, delay, ranks) == []


def test_without_counters_nothing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbors, "usage", lambda: None)
    assert Neighbors().line() is None


def test_a_real_neighbor_on_one_core() -> None:
    program = """
import os, subprocess, sys, time
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
from train.log import neighbors
neighbors.PATIENCE = 0.5
other = subprocess.Popen([sys.executable, "-c", "while True: pass"])
try:
    watch, line, end = neighbors.Neighbors(), None, time.monotonic() + 60
    while line is None and time.monotonic() < end:
        until = time.process_time() + 0.2
        while time.process_time() < until: pass
        line = watch.line()
    print(line)
finally:
    other.kill()
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert "of the 1 cores that training may use" in done.stdout, done.stdout + done.stderr
