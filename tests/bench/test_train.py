"""bench.train: its rows take real steps, its split of a step adds up, its sentence follows from the numbers."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from bench import train as bench_train
from bench.measuring import fresh
from bench.measuring.clock import Clock
from bench.measuring.fresh import RowFailed
from bench.rows import train as train_row
from bench.rows.naive import scores
from bench.rows.train import measure
from bench.train import ROWS, best, command, in_process, render, sentence
from ingest.errors import UserError
from tests.shard_folder import smooth_scene, write_shards
from train import config
from train.config import Recipe
from train.distributed import Ranks
from train.evaluate.metrics import ConfusionMatrix
from train.run import Run

CPU = Ranks(rank=0, count=1, local_rank=0, local_count=1, device=torch.device("cpu"))
PARTS = ("data", "forward", "backward", "optimizer", "rest")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_shards(tmp_path_factory.mktemp("bench"), {"train": [smooth_scene(40, 56, i) for i in range(8)]})


@pytest.fixture
def recipe(folder: Path) -> Recipe:
    raw = {
        "data": {"path": str(folder), "batch_size": 2, "threads": 1},
        "augment": {"crop": [32, 32], "base_size": 48},
        "net": {"name": "enet"},
        "optimizer": {"accumulate": 2},
        "train": {"steps": 3, "log_every": 2, "device": "cpu"},
    }
    return config.parse(raw)


@pytest.mark.parametrize("row", ["cached", "ours"])
def test_a_row_takes_the_trainers_steps(recipe: Recipe, row: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[str]] = []
    whole = Run.one_step

    def watched(run: Run, batches: object, window: object) -> object:
        def looked_at():
            for batch in batches:  # type: ignore[attr-defined]
                seen.append(batch.keys)
                yield batch

        return whole(run, looked_at(), window)  # type: ignore[arg-type]

    monkeypatch.setattr(Run, "one_step", watched)
    facts = measure(row, recipe, 4, CPU)
    assert len(seen) == 2 * (train_row.WARM_UP + 4)  # two batches a step
    assert (row == "cached") == all(keys == seen[0] for keys in seen)
    assert facts["images_per_second"] == pytest.approx(4 * facts["steps_per_second"])
    split = sum(facts[f"{part}_seconds"] for part in PARTS)
    assert split == pytest.approx(1 / facts["steps_per_second"], rel=1e-6)
    assert all(facts[f"{part}_seconds"] > 0 for part in ("forward", "backward", "optimizer"))


@pytest.mark.slow
def test_the_naive_row_in_its_own_process(recipe: Recipe) -> None:
    facts = in_process("naive", recipe, 2)
    assert facts["images_per_second"] == pytest.approx(2 * facts["steps_per_second"])  # it does not accumulate
    assert facts["forward_seconds"] > 0 and facts["rest_seconds"] > 0


def test_naive_scores_are_the_metrics() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 4, 8, 8, generator=generator)
    labels = torch.randint(0, 3, (2, 8, 8), generator=generator)  # class 3 is predicted and never there
    labels[0, :2] = 255
    matrix = ConfusionMatrix(4, "cpu")
    matrix.update(logits, labels.to(torch.uint8))
    accuracy, iou = scores(logits, labels, 4)
    found = matrix.result()
    assert accuracy == pytest.approx(found.pixel_accuracy)
    assert iou == pytest.approx(found.iou)


def test_the_clock_gives_each_part_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0

    def passes(seconds: float) -> None:
        nonlocal now
        now += seconds

    monkeypatch.setattr(time, "perf_counter", lambda: now)
    clock = Clock(torch.device("cpu"))
    batches = clock.waiting(iter([passes] * 4))
    forward = clock.entering("forward", passes)
    loss = clock.leaving(passes, "backward")
    clock.enter("rest")
    for _ in range(2):  # two batches a step
        next(batches)
        passes(0.5)  # to the device
        forward(2.0)
        loss(1.0)
        passes(4.0)
    clock.enter("optimizer")
    passes(0.25)
    clock.enter("rest")
    passes(9.0)
    clock.enter("rest")
    assert clock.read() == {"data": 1.0, "forward": 6.0, "backward": 8.0, "optimizer": 0.25}
    clock.reset()
    assert not any(clock.read().values())


def facts(speed: float, wait: float = 0.0, **parts: float) -> dict[str, float]:
    split = {f"{part}_seconds": parts.get(part, 0.1) for part in PARTS}
    return {
        "images_per_second": speed,
        "steps_per_second": speed / 8,
        "wait_share": wait,
        "cpu_seconds_per_image": 0.1,
        "peak_mb": 1.0,
        **split,
    }


def summarized(found: dict[str, list[dict[str, float]]]) -> dict[str, dict[str, float]]:
    return fresh.summarize(found, bench_train.RATIOS)


def test_ratios_are_of_medians() -> None:
    table = summarized(
        {
            "cached": [facts(9), facts(10), facts(30)],
            "ours": [facts(8), facts(9), facts(7)],
            "naive": [facts(4), facts(4), facts(4)],
        }
    )
    assert table["ours"]["share_of_cached"] == pytest.approx(0.8)
    assert table["ours"]["times_naive"] == pytest.approx(2)
    lines = render(table).splitlines()
    assert len({len(line) for line in lines[:4]}) == 1 and len({len(line) for line in lines[5:]}) == 1
    assert "0.80" in lines[2] and "2.00" in lines[2] and "25%" in lines[2]


def test_the_fastest_repeats_are_set_side_by_side() -> None:
    found = {"cached": [facts(10), facts(8)], "ours": [facts(5), facts(9)]}
    assert best(found) == "Fastest repeats, images/s: cached 10.0, ours 9.0; ours is 0.90 of cached."
    assert best({"ours": [facts(5), facts(9)]}) == ""
    assert best({"cached": [facts(10)], "ours": [facts(5)]}) == ""


def test_the_sentence_names_what_bounds_training() -> None:
    def of(speed: float, wait: float, device: str = "cpu", **parts: float) -> str:
        return sentence(summarized({"cached": [facts(10)], "ours": [facts(speed, wait, **parts)]}), device)

    assert of(9.8, 0.01, backward=0.5).startswith("Bounded by the net: the backward pass, 56% of a step")
    assert of(9.8, 0.01, forward=0.5).startswith("Bounded by the net: the forward pass")
    assert of(7.0, 0.20).startswith("Bounded by data: 20.0%")
    assert of(9.0, 0.01).startswith("Bounded by the cores")
    assert "0.98 of a cached batch's speed (target 0.95: met)" in of(9.8, 0.0)
    assert "target 0.98: missed" in of(9.7, 0.0, "gpu")
    assert sentence({"cached": facts(10)}, "cpu") == ""
    noisy = summarized({"cached": [facts(10), facts(5), facts(9)], "ours": [facts(9)]})
    assert "target 0.95)" in sentence(noisy, "cpu")  # no verdict on such repeats


def test_the_command_writes_tables_and_json(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    orders = []

    def fake(row: str, recipe: Recipe, steps: int) -> dict[str, float]:
        orders.append((row, recipe.data.path, recipe.data.batch_size, steps))
        if row == "naive":
            raise RowFailed("row 'naive' failed: no workers")
        return facts(5)

    monkeypatch.setattr(bench_train, "in_process", fake)
    out = tmp_path / "out.json"
    arguments = ["--cfg", "scenes_enet", str(folder), "data.batch_size=4", "train.device=cpu", "--repeats", "2"]
    done = CliRunner().invoke(command, [*arguments, "--steps", "7", "--json", str(out)], catch_exceptions=False)
    assert done.exit_code == 0
    assert orders[0] == ("cached", str(folder), 4, 7)
    assert [row for row, *_ in orders] == ["cached", "ours", "naive", "cached", "ours"]  # in turn
    assert "no workers" in done.output and "Bounded by" in done.output
    found = json.loads(out.read_text())
    assert set(found["rows"]) == set(ROWS) - {"naive", "ours-cpu"}
    assert found["recipe"]["net"]["name"] == "enet" and found["versions"]["torch"]


def test_mistakes(folder: Path, tmp_path: Path) -> None:
    cfg = ["--cfg", "scenes_enet"]
    for arguments, message in (
        ([*cfg, str(folder), "--rows", "our"], "did you mean 'ours'"),
        ([*cfg, "/nowhere"], "does not exist"),
        ([*cfg, str(folder), "data.batch_size=9"], "fewer than one global batch"),
        ([*cfg, str(folder), "data.bach_size=9"], "did you mean 'data.batch_size'"),
        ([*cfg, "a", "b"], "give one shard folder"),
        ([*cfg, str(folder), "--json", str(tmp_path / "no" / "x.json")], r"the folder .* does not exist"),
    ):
        with pytest.raises(UserError, match=message):
            CliRunner().invoke(command, arguments, catch_exceptions=False)
