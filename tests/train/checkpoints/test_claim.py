"""Whose a run folder is, and what a killed training leaves."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from ingest.errors import UserError
from train.__main__ import command
from train.checkpoints import checkpoint, claim


def test_the_second_is_told_who_the_first_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claim, "PATIENCE", 0.1)
    told = rf"run is in use by another training \(pid {os.getpid()} on "
    with claim.claimed(tmp_path / "run"), pytest.raises(UserError, match=told), claim.claimed(tmp_path / "run"):
        pass
    with claim.claimed(tmp_path / "run"):  # let go
        pass


def test_what_a_killed_training_left_is_swept_and_a_living_ones_is_not(tmp_path: Path) -> None:
    for run in ("dead", "alive"):
        left = tmp_path / run / "checkpoints" / "last.pt.77-0.partial"
        left.mkdir(parents=True)
        (left / "last.pt").write_bytes(b"half")
        (tmp_path / run / claim.FILE).write_text("")
    with open(tmp_path / "alive" / claim.FILE) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        claim.sweep(tmp_path)
    assert [len(list((tmp_path / run / "checkpoints").iterdir())) for run in ("dead", "alive")] == [0, 1]


def test_a_file_system_without_locks_costs_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    def none(*_: object) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(claim.fcntl, "flock", none)
    with claim.claimed(tmp_path / "run"):
        assert "cannot be locked (No locks available)" in capsys.readouterr().err


def test_killed_before_the_first_checkpoint_it_starts_anew_in_its_own_folder(
    raw_recipe: dict[str, Any], tmp_path: Path
) -> None:
    raw_recipe["train"] |= {"steps": 1}
    recipe = tmp_path / "r.yaml"
    recipe.write_text(yaml.safe_dump(raw_recipe))
    run = tmp_path / "saved" / "toy" / "2026-01-01_00-00-00"
    left = run / "checkpoints" / "last.pt.77-0.partial"
    left.mkdir(parents=True)
    (left / "last.pt").write_bytes(b"half")
    (run / claim.FILE).write_text("pid 77 on host\n")
    (run / "log.jsonl").write_text('{"step": 1, "kind": "train", "loss": 777.25}\n')
    done = CliRunner().invoke(command, ["--cfg", str(recipe), "--resume", "auto"], catch_exceptions=False)
    assert "from the start" in done.output
    assert [path.name for path in (tmp_path / "saved" / "toy").iterdir()] == [run.name]
    assert {path.name for path in (run / "checkpoints").iterdir()} == {"last.pt", "best.pt"}
    assert "777.25" not in (run / "log.jsonl").read_text()


def test_a_run_folder_stands_for_its_checkpoint(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    named = {"name": "toy", "classes": ["a", "b"], "palette": [[0, 0, 0], [9, 9, 9]], "channels": 3}
    facts = {**named, "mean": [0.5] * 3, "std": [0.5] * 3, "ignore": 255}
    state = {"model": {}, "config": {}, "dataset": facts, "step": 3}
    run = tmp_path / "saved" / "toy" / "2026-01-01_00-00-00"
    with pytest.raises(
        UserError, match=r"is a folder without best\.pt or last\.pt: give a checkpoint or a run folder$"
    ):
        checkpoint.load_net(tmp_path)
    checkpoint.save(run / "checkpoints" / "last.pt", state)
    assert checkpoint.load_net(run)["step"] == 3
    checkpoint.save(run / "checkpoints" / "best.pt", state | {"step": 2})
    assert checkpoint.load_net(run)["step"] == checkpoint.load_net(run / "checkpoints")["step"] == 2
    assert f"checkpoint: {run / 'checkpoints' / 'best.pt'}" in capsys.readouterr().err
    with pytest.raises(UserError, match=rf"a run folder, such as {run}$"):
        checkpoint.load_net(tmp_path / "saved" / "toy")
