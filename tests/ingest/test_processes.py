"""Worker processes: order, errors, and deaths at any moment, none of which makes anyone wait for ever."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ingest.errors import UserError
from ingest.processes import Work, in_order
from tests.ingest import processes_work as work
from tests.ingest.conftest import write_pair
from tests.ingest.test_writer import hashes


def name(item: object) -> str:
    return f"item {item[0] if isinstance(item, tuple) else item}"


def test_results_come_in_order() -> None:
    assert list(in_order(range(50), Work(work.double, name), 3)) == [2 * item for item in range(50)]
    assert list(in_order([], Work(work.double, name), 2)) == []


def test_workers_are_told_once() -> None:
    assert list(in_order(range(4), Work(work.given, name, work.remember, (10,)), 2)) == [10, 11, 12, 13]


def test_items_and_results_larger_than_a_pipe() -> None:
    items = [(number, bytes(work.BIG)) for number in range(6)]
    results = list(in_order(items, Work(work.big, name), 2))
    assert [(result[0], len(result)) for result in results] == [(number, work.BIG) for number in range(6)]


def test_an_error_comes_where_its_result_would() -> None:
    results = in_order(range(20), Work(work.fail_at_five, name), 3)
    assert [next(results) for _ in range(5)] == list(range(5))
    with pytest.raises(UserError, match="item five is bad"):
        next(results)
    with pytest.raises(RuntimeError, match="pickle"):
        list(in_order(range(4), Work(work.unpicklable, name), 2))


def test_closing_ends_the_workers() -> None:
    before = set(multiprocessing.active_children())
    results = in_order(range(1000), Work(work.double, name), 3)
    assert next(results) == 0 and len(multiprocessing.active_children()) == len(before) + 3
    results.close()
    assert set(multiprocessing.active_children()) <= before


def test_a_death_is_told_with_what_was_under_way() -> None:
    with pytest.raises(UserError, match=r"by signal 9 \(SIGKILL\) while it was at item 7: .*--workers"):
        list(in_order(range(30), Work(work.die_at_seven, name), 2))


@pytest.mark.parametrize("rounds", [4, pytest.param(60, marks=[pytest.mark.slow, pytest.mark.timeout(900)])])
def test_a_death_while_sending_makes_no_one_wait(rounds: int) -> None:
    chance, told = random.Random(rounds), 0
    for _ in range(rounds):
        items = [(number, chance.uniform(0, 0.008) if number == 3 else -1.0) for number in range(12)]
        with contextlib.suppress(UserError):
            list(in_order(items, Work(work.die_while_sending, name), 2))
            told -= 1  # killed only after all was done
        told += 1
    assert told > rounds // 2


def children(parent: int) -> list[int]:
    """Process ids of all descendants that convert."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if int((entry / "stat").read_text().rpartition(")")[2].split()[1]) == parent:
                    found += [int(entry.name), *children(int(entry.name))]
    return found


@pytest.mark.parametrize("kills", [1, pytest.param(12, marks=[pytest.mark.slow, pytest.mark.timeout(900)])])
def test_an_ingest_whose_worker_is_killed_says_so_and_goes_on_later(tmp_path: Path, kills: int) -> None:
    raw, chance = tmp_path / "raw", random.Random(kills)
    for number in range(120):
        write_pair(raw, "train", f"s{number}", number, (100, 120))
    (raw / "dataset.yaml").write_text(
        "{name: t, classes: [a, b, c], ignore: [9], splits: {train: {images: 'img/train/*', labels: 'lbl/train/*'}}}"
    )

    def command(out: str, *more: str) -> list[str]:
        words = ["folder", raw, "--spec", raw / "dataset.yaml", "--shard-size", "60kB", "--out", tmp_path / out]
        return [sys.executable, "-m", "ingest", *map(str, words), "--workers", "2", *more]

    subprocess.run(command("quiet"), check=True, capture_output=True)
    noticed = 0
    for kill in range(kills):
        out = f"out{kill}"
        process = subprocess.Popen(command(out), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        while process.poll() is None and not list(tmp_path.glob(f"{out}.partial/train-*.json")):
            time.sleep(0.005)
        time.sleep(chance.uniform(0, 0.3))
        workers = [pid for pid in children(process.pid) if b"forkserver" in Path(f"/proc/{pid}/cmdline").read_bytes()]
        # the fork server, which has the lowest id, then the workers
        if len(workers) > 1 and process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(max(workers), signal.SIGKILL)
        _, told = process.communicate(timeout=60)
        if process.returncode:
            assert process.returncode == 2 and "Traceback" not in told, told
            noticed += 1
            assert "a worker process ended by signal 9" in told and "--resume" in told and told.count("error:") == 1
            subprocess.run(command(out, "--resume"), check=True, capture_output=True)
        assert hashes(tmp_path / out) == hashes(tmp_path / "quiet")
    assert noticed >= kills // 3
