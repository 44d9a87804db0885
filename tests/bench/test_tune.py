"""The search for settings: it finds the fastest, and takes no more threads, memory or splits than that needs."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from bench import loader as bench_loader
from bench.data.setting import Setting
from bench.tune import Measure, recipe_lines, thread_counts, tune
from pipeline.augment import Augment
from tests.shard_folder import smooth_scene, write_shards

START = Setting("x", "train", Augment(), 8, 2, "cpu")


def speed(threads: float = 0.0, prefetch: float = 0.0, split: float = 0.0) -> Measure:
    """A machine that gains these from more threads, more prefetch, smaller batches."""

    def measure(setting: Setting) -> float:
        return 100 + threads * setting.threads + prefetch * setting.prefetch + split * (8 / setting.batch - 1)

    return measure


def test_candidates_reach_beyond_the_cores() -> None:
    assert thread_counts(1) == [1, 2]
    assert thread_counts(2) == [1, 2, 3]
    assert thread_counts(12) == [1, 2, 4, 8, 12, 18]


def test_the_fastest_is_taken() -> None:
    chosen, tried = tune(START, 4, 1, speed(threads=50, prefetch=40, split=90))
    assert (chosen.threads, chosen.prefetch, chosen.batch) == (6, 4, 2)
    assert max(one.images_per_second for one in tried) == 100 + 300 + 160 + 270


def test_what_gains_nothing_is_not_taken() -> None:
    chosen, _ = tune(START, 4, 1, speed())
    assert (chosen.threads, chosen.prefetch, chosen.batch) == (1, 1, 8)
    assert tune(START, 4, 1, speed(split=2))[0].batch == 8  # 6% do not pay for small batches


def test_one_slow_moment_does_not_decide() -> None:
    calls: list[Setting] = []

    def measure(setting: Setting) -> float:
        calls.append(setting)
        return 1.0 if len(calls) == 3 else 100.0 * setting.threads  # the first look at three threads is disturbed

    assert tune(START, 2, 3, measure)[0].threads == 3


def test_a_split_batch_keeps_the_step() -> None:
    chosen, _ = tune(START, 2, 1, speed(split=90))
    lines = recipe_lines(chosen, START.batch)
    assert "batch_size: 2" in lines and "accumulate: 4" in lines
    assert "accumulate" not in recipe_lines(START, START.batch)


def test_the_command_prints_lines_to_paste(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import yaml

    folder = write_shards(tmp_path / "data", {"train": [smooth_scene(40, 50, i) for i in range(4)]})
    monkeypatch.setattr(bench_loader, "in_process", lambda row, setting, seconds: {"images_per_second": 5.0})
    arguments = [str(folder), "--batch", "4", "--threads", "2", "--tune"]
    done = CliRunner().invoke(bench_loader.command, arguments, catch_exceptions=False)
    assert done.exit_code == 0
    pasted = done.output.split("bench.train`\n")[1]
    assert yaml.safe_load(pasted) == {"data": {"threads": 1, "prefetch": 1, "batch_size": 4}}
