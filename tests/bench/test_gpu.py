"""bench/on_gpu.sh: each stage fails by itself, what the stages wrote becomes tables. Only a GPU gives numbers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from bench import gpu_report
from bench.gpu import gradients, levers, others, pixels
from bench.gpu.__main__ import STAGES, main
from bench.gpu.stage import Place
from ingest.errors import UserError
from tests.shard_folder import smooth_scene, write_shards

ROOT = Path(__file__).resolve().parents[2]
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    scenes = [smooth_scene(60, 80, i) for i in range(8)]
    return write_shards(tmp_path_factory.mktemp("gpu"), {"train": scenes}, ext="jpg")


def test_stages_that_a_cpu_can_run(shards: Path, tmp_path: Path) -> None:
    place = Place(tmp_path, CPU, shards, quick=True)
    smoke = pixels.smoke(place)
    assert smoke["images_per_second"] > 0
    assert smoke["threads"] and all(one["cpu_ms_per_image"] > 0 for one in smoke["threads"])  # any of them may be idle
    streams = pixels.streams(place)
    assert set(streams) == {"default", "everything"}
    assert all(one["p98"] <= 3 and one["labels_that_differ"] < 0.01 for one in streams.values())
    decoders = pixels.decoders(place)
    assert [row["fancy"] for row in decoders["rows"]] == [True, False]
    assert all(row["most"] == 0 for row in decoders["rows"] if row["fancy"])  # libjpeg both
    kept = levers.resident(place)
    assert all(one["p98"] <= 4 and one["mean"] < 1 and one["labels_that_differ"] < 0.01 for one in kept.values())
    errors = gradients.gradients(place)
    for one in errors.values():
        assert one["interpolate, float32"] < 1e-5 < one["interpolate, bfloat16"] < 0.05


def test_streams_of_other_samples_are_no_result(shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = pixels._made
    monkeypatch.setattr(pixels, "_made", lambda loader, place: (next(it), it)[1] if (it := made(loader, place)) else it)
    with pytest.raises(RuntimeError, match="the streams hold other samples"):
        pixels.streams(Place(tmp_path, CPU, shards, quick=True))


@pytest.mark.parametrize("stage", ["reuse", "capture", "smoke"])
def test_a_stage_without_its_gpu_says_so_in_its_json(stage: str, shards: Path, tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    device = "cpu" if stage != "smoke" else "gpu"
    arguments = [stage, str(tmp_path), "--data", str(shards), "--device", device]
    done = CliRunner().invoke(main, arguments, standalone_mode=False)
    assert done.return_value == 1
    facts = json.loads((tmp_path / f"{stage}.json").read_text())
    assert facts["ok"] is False and "GPU" in facts["error"] and facts["stage"] == stage


def test_a_stage_that_raises_still_writes_its_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(place: Place) -> None:
        raise ZeroDivisionError("oh")

    monkeypatch.setattr(others, "versions", broken)
    done = CliRunner().invoke(main, ["versions", str(tmp_path)], standalone_mode=False)
    assert done.return_value == 1 and "ZeroDivisionError" in done.output
    assert json.loads((tmp_path / "versions.json").read_text())["error"] == "ZeroDivisionError: oh"


def test_a_bench_that_is_stopped_leaves_what_it_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "rows.json"
    code = (
        "import pathlib, sys, time; pathlib.Path(sys.argv[-1]).write_text('{\"rows\": [1]}'); "
        "time.sleep(60 if 'slow' in sys.argv else 0)"
    )
    (tmp_path / "fake_bench.py").write_text(code)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(others, "_SPARE", 0.0)
    monkeypatch.setattr(others, "_START", others.time.perf_counter())
    assert others._bench(["fake_bench"], out) == {"rows": [1]}
    monkeypatch.setenv("STAGE_SECONDS", "3")
    assert others._bench(["fake_bench", "slow"], out) == {"rows": [1]}
    assert "ended with code 1" in others._bench(["no_such_module"], out)["error"]
    with pytest.raises(RuntimeError, match="no_such_module"):
        others._some({"one": others._bench(["no_such_module"], out)})


def fake_results(folder: Path) -> None:
    facts = {"images_per_second": 1234.0, "cpu_seconds_per_image": 0.001, "share_of_limit": 0.5, "gpu_mb": 99.0}
    steps = {"images_per_second": 200.0, "share_of_cached": 0.99, "wait_share": 0.01, "cpu_seconds_per_image": 0.002}
    results = {
        "versions": {"versions": {"torch": "2.14"}, "nvidia-smi": ""},
        "smoke": {"images_per_second": 4000.0, "threads": [{"thread": "python", "cpu_ms_per_image": 0.25}]},
        "streams": {"default": {"mean": 0.1, "p98": 1.0, "most": 5, "labels_that_differ": 0.0001}},
        "reuse": {"gpu": {"batches": 40, "changed_before_use": 0, "most_from_cpu": 0.001}},
        "capture": {"global": {"error": "not | permitted"}, "relaxed": {"replays": 20, "most_from_eager": 0.0}},
        "loader": {"VOC": {"rows": {"ours": facts}, "bound": "Bounded by decode."}, "other": {"error": "no time"}},
        "training": {"ENet": {"ours": steps}},
        "resident": {
            "default": {
                **{"mean": 0.2, "p98": 2.0, "most": 7, "labels_that_differ": 0.0002},
                **{"images_per_second": 9000.0, "first_batch_s": 1.5},
            }
        },
        "levers": {"ENet: as it is": steps, "ENet: train.compile": {"error": "took more than the 9 s"}},
        "tests": {"passed": 3, "failed": ["a::b"], "skipped": 1},
    }
    for stage, result in results.items():
        (folder / f"{stage}.json").write_text(json.dumps({"stage": stage, "ok": True, "result": result}))
    (folder / "nets.json").write_text('{"stage": "nets", "ok": false, "error": "ran past its 60 s"}')
    (folder / "decoders.json").write_text("{broken")
    (folder / "gradients.json").write_text("[]")


def test_the_report_has_a_table_a_stage_and_names_those_without(tmp_path: Path) -> None:
    fake_results(tmp_path)
    out = tmp_path / "report.md"
    done = CliRunner().invoke(gpu_report.command, [str(tmp_path), "--out", str(out)], catch_exceptions=False)
    page = out.read_text()
    assert done.exit_code == 0 and done.output.strip() == page.strip()
    for cells in (
        "| torch | 2.14 |",
        "| python | 0.250 |",
        "| default | 0.10 | 1 | 5 | 0.010% |",
        "| gpu: 40 | 0 | 0.10% |",
        "| global | not / permitted |",
        "| ours | 1,234 | 0.50 | 1.00 | 99 |",
        "other: no time",
        "| ours | 200.0 | 0.99 | - | 1.0% | 2.0 | 0 |",
        "| default | 0.20 | 2 | 7 | 0.020% | 9,000 | 1.5 |",
        "| ENet: as it is | 200.0 | 1.0% | 0 |",
        "| ENet: train.compile | took more than the 9 s |  |  |",
        "3 passed, 1 failed, 1 skipped.",
        "| nets | ran past its 60 s |",
        "| scenes | did not run |",
    ):
        assert cells in page, cells
    assert "decoders.json is no JSON" in page and "gradients.json is no result of a stage" in page
    for line in page.splitlines():  # every table has as many cells in each row as in its head
        assert not line.startswith("|") or line.endswith("|")


def test_mistakes(tmp_path: Path) -> None:
    for arguments, message in (([str(tmp_path)], "holds no results"), ([str(tmp_path / "none")], "is no folder")):
        with pytest.raises(UserError, match=message):
            CliRunner().invoke(gpu_report.command, arguments, catch_exceptions=False)


@pytest.mark.slow
def test_the_script_runs_every_stage_and_ends_in_time(tmp_path: Path, shards: Path) -> None:
    """On a CPU: all but what needs none fails by itself, the script goes on, and a stage that is late is left out."""
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    environment = os.environ | {"PYTHON": sys.executable, "TOTAL": "300"}
    script = ["bash", str(ROOT / "bench/on_gpu.sh"), str(tmp_path / "out"), str(shards)]
    run = subprocess.run(script, env=environment, capture_output=True, text=True)
    assert run.returncode == 1, run.stderr
    for stage in set(STAGES) - {"scenes"}:
        facts = json.loads((tmp_path / "out" / f"{stage}.json").read_text())
        assert facts["ok"] == (stage == "versions"), facts
    assert "Machine and versions" in (tmp_path / "out/report.md").read_text()


def test_a_stage_that_comes_too_late_is_left_out(tmp_path: Path) -> None:
    environment = os.environ | {"PYTHON": sys.executable, "TOTAL": "0"}
    run = subprocess.run(["bash", str(ROOT / "bench/on_gpu.sh"), str(tmp_path)], env=environment, capture_output=True)
    assert run.returncode == 1
    for stage in STAGES:
        assert "ran past its" in json.loads((tmp_path / f"{stage}.json").read_text())["error"]
