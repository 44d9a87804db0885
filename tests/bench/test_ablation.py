"""bench.ablation: runs by turns, each once, and a table that says what a change does over the seeds."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from bench import ablation
from ingest.errors import UserError
from tests.bench.run_folder import write_run
from tests.shard_folder import smooth_scene, write_shards
from train import config

VARIANTS = {"base": {}, "ema": {"train.ema": 0.5}, "wide": {"augment.crop": [64, 32]}}


class Runner:
    """Trains nothing: writes what a run folder holds, a score by variant and seed."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.made, self.fails = folder, list[tuple[str, list[str]]](), ""

    def __call__(self, recipe: str, overrides: Sequence[str], name: str) -> Path:
        self.made.append((name, list(overrides)))
        if self.fails and name.startswith(self.fails):
            raise UserError(f"the run {name} failed")
        loaded = config.load(recipe, list(overrides))
        miou = 0.5 + 0.01 * loaded.seed + (0.1 + 0.02 * loaded.seed) * (loaded.train.ema > 0)
        return write_run(self.folder / name / "time", loaded, miou if loaded.data.val else None)


@pytest.fixture
def runner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Runner:
    fake = Runner(tmp_path / "runs")
    monkeypatch.setattr(ablation, "in_process", fake)
    (tmp_path / "v.yaml").write_text(yaml.safe_dump(VARIANTS, sort_keys=False))
    return fake


def call(tmp_path: Path, *words: str) -> str:
    arguments = ["--cfg", "scenes_enet", "--variants", str(tmp_path / "v.yaml"), "--out", str(tmp_path / "out.jsonl")]
    done = CliRunner().invoke(ablation.command, [*arguments, *words], catch_exceptions=False)
    assert done.exit_code == 0
    return done.output


def test_runs_by_turns_and_each_once(runner: Runner, tmp_path: Path) -> None:
    call(tmp_path, "--seeds", "2", "optimizer.lr=0.1")
    assert [name.split("-")[:2] for name, _ in runner.made] == [[v, s] for s in ("s0", "s1") for v in VARIANTS]
    assert runner.made[5][1] == ["optimizer.lr=0.1", "augment.crop=[64, 32]", "seed=1"]
    call(tmp_path, "--seeds", "3", "optimizer.lr=0.1")
    assert len(runner.made) == 9 and {name.split("-")[1] for name, _ in runner.made[6:]} == {"s2"}
    call(tmp_path, "--seeds", "1", "optimizer.lr=0.2")  # another measurement, although of the same names
    assert len(runner.made) == 12
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert len(lines) == 12 and lines[0]["miou"] == 0.5 and lines[0]["minutes"] == 2 and lines[0]["split"] == "val"
    assert lines[0]["machine"] == "2 x Z, no GPU" and lines[0]["best_miou"] == 0.9


def test_the_table_is_paired_by_seed(runner: Runner, tmp_path: Path) -> None:
    call(tmp_path, "--seeds", "3")
    shown = call(tmp_path, "--seeds", "3", "--table", "--classes", "pole,sky")
    assert len(runner.made) == 9
    head, _, base, ema, _ = [[cell.strip() for cell in line.split("|")[1:-1]] for line in shown.splitlines()]
    assert head[2:4] == ["mIoU", "change to base"] and head[5:7] == ["pole", "sky"]
    assert base[1:4] == ["3", "51.00 +- 1.00", "-"] and base[5:] == ["25.00 +- 0.00", "-", "9", "2.0"]
    assert ema[2:4] == ["63.00 +- 3.00", "12.00 +- 2.00"]
    assert len({len(line) for line in shown.splitlines()}) == 1


def test_equal_minutes_are_steps_by_each_ones_speed(runner: Runner, tmp_path: Path) -> None:
    call(tmp_path, "--seeds", "1", "--minutes", "3")
    probe, whole = runner.made[0], runner.made[1]
    assert probe[0] == f"{whole[0]}-probe" and "data.val=" in probe[1]
    assert whole[1][-1] == "train.steps=360"  # 0.5 s each


def test_a_failed_run_costs_no_other(runner: Runner, tmp_path: Path) -> None:
    runner.fails = "ema-s0"
    with pytest.raises(UserError, match=r"1 runs are missing \(the run ema-s0-\w+ failed\)"):
        call(tmp_path, "--seeds", "2")
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == 5
    runner.fails = ""
    call(tmp_path, "--seeds", "2")
    assert len(runner.made) == 7 and runner.made[-1][0].startswith("ema-s0")


@pytest.mark.parametrize(
    ("variants", "message"),
    [
        ("{base: {}, a: {train.emma: 1}}", "variant a: unknown key 'train.emma' = 1; did you mean 'train.ema'"),
        ("[a, b]", r"holds \['a', 'b'\]: expected names with overrides, such as `base: {}`"),
        ("a: 5", "'a': 5: expected names with overrides"),
        ("", "holds null: expected names"),
        ("a: {", "is not YAML"),
        ("a: {seed: !!int x}", "is not YAML"),
        ("{a/b: {}}", "variant a/b: name = 'a/b"),
    ],
)
def test_mistakes_cost_no_run(runner: Runner, tmp_path: Path, variants: str, message: str) -> None:
    (tmp_path / "v.yaml").write_text(variants)
    with pytest.raises(UserError, match=message):
        call(tmp_path)
    assert not runner.made


def test_no_variants_file(runner: Runner, tmp_path: Path) -> None:
    (tmp_path / "v.yaml").unlink()
    with pytest.raises(UserError, match=r"v.yaml: there is no such file: expected names with overrides"):
        call(tmp_path)


def test_a_damaged_results_file(runner: Runner, tmp_path: Path) -> None:
    (tmp_path / "out.jsonl").write_text('{}\n{"variant": "ba')
    with pytest.raises(UserError, match=r"out.jsonl, line 2 is no JSON"):
        call(tmp_path)


@pytest.mark.slow
def test_real_runs(tmp_path: Path) -> None:
    shards = write_shards(
        tmp_path / "shards", {s: [smooth_scene(40, 56, i) for i in range(4)] for s in ("train", "val")}
    )
    (tmp_path / "v.yaml").write_text("{base: {}, ema: {train.ema: 0.5}}")
    small = [
        f"data.path={shards}",
        f"output={tmp_path}",
        "data.batch_size=2",
        "augment.crop=[32,32]",
        "train.device=cpu",
    ]
    words = ["--seeds", "1", *small, "train.steps=2", "data.device=cpu", "schedule.warmup_steps=0"]
    shown = call(tmp_path, *words)
    base, ema = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert base["steps"] == ema["steps"] == 2 and base["miou"] != ema["miou"] and "ema" in shown
    assert call(tmp_path, *words, "--table").strip() == shown[shown.rindex("| variant") :].strip()
