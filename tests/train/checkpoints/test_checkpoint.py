"""Checkpoints: whole or not at all, and only ours."""

from __future__ import annotations

import errno
import os
import pickle
import random
import resource
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from ingest.errors import UserError
from train.checkpoints import checkpoint


def test_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "checkpoints" / "last.pt"
    checkpoint.save(path, {"model": {"w": torch.arange(3)}, "step": 5, "best": None})
    state = checkpoint.load(path)
    assert state["step"] == 5 and state["best"] is None and torch.equal(state["model"]["w"], torch.arange(3))


def test_a_full_disk_keeps_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "last.pt"
    checkpoint.save(path, {"step": 1})

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(checkpoint.os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        checkpoint.save(path, {"step": 2})
    monkeypatch.undo()
    assert checkpoint.load(path)["step"] == 1
    assert [file.name for file in tmp_path.iterdir()] == ["last.pt"]


def test_a_disk_that_fills_while_writing(tmp_path: Path) -> None:
    """A real file system that refuses the bytes: torch's own error speaks of its zip, ours of the disk."""
    path = tmp_path / "last.pt"
    checkpoint.save(path, {"step": 1})
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(OSError, match="File too large"):
            checkpoint.save(path, {"model": {str(i): torch.zeros(10_000) for i in range(20)}})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
        signal.signal(signal.SIGXFSZ, ignored)
    assert checkpoint.load(path)["step"] == 1
    assert [file.name for file in tmp_path.iterdir()] == ["last.pt"]


def test_a_second_name_outlives_the_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a hard link, and by a copy where the file system has none."""
    first, second = tmp_path / "best.pt", tmp_path / "last.pt"
    for step in (1, 2):
        checkpoint.save(first, {"step": step})
        checkpoint.link(first, second)
        checkpoint.link(first, second)  # again: a resumed run does it twice
        assert os.path.samefile(first, second)
    checkpoint.save(first, {"step": 3})
    assert checkpoint.load(second)["step"] == 2

    def none(*_: object) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(checkpoint.os, "link", none)
    checkpoint.link(first, second)
    assert checkpoint.load(second)["step"] == 3 and not os.path.samefile(first, second)
    assert {file.name for file in tmp_path.iterdir()} == {"best.pt", "last.pt"}


def test_foreign_files_are_refused_without_running_them(tmp_path: Path) -> None:
    path = tmp_path / "x.pt"
    with pytest.raises(UserError, match="does not exist"):
        checkpoint.load(path)
    path.write_bytes(b"not a checkpoint")
    with pytest.raises(UserError, match="no checkpoint of segrail"):
        checkpoint.load(path)
    torch.save({"step": 3}, path)
    with pytest.raises(UserError, match="expected 'segrail-checkpoint-1'"):
        checkpoint.load(path)

    trap = tmp_path / "ran"

    class Payload:
        def __reduce__(self):
            return (trap.touch, ())

    path.write_bytes(pickle.dumps(Payload()))
    with pytest.raises(UserError, match="no checkpoint of segrail"):
        checkpoint.load(path)
    torch.save({"format": checkpoint.FORMAT, "x": Payload()}, path)
    with pytest.raises(UserError, match=r"holds more than tensors.* can run code; use another one$"):
        checkpoint.load(path)
    assert not trap.exists()


def test_a_checkpoint_without_a_net_is_named(tmp_path: Path) -> None:
    checkpoint.save(tmp_path / "last.pt", {"step": 3, "model": {}})
    with pytest.raises(UserError, match=r"last\.pt is no whole checkpoint: it holds no config, dataset; use another"):
        checkpoint.load_net(tmp_path / "last.pt")


def test_whatever_the_file_holds(tmp_path: Path) -> None:
    path, draw = tmp_path / "last.pt", random.Random(0)
    for content in [b"", b"junk\n", b"PK\x03\x04", b"\x80\x04", *(draw.randbytes(n) for n in range(1, 120))]:
        path.write_bytes(content)
        with pytest.raises(UserError, match="no checkpoint of segrail") as error:
            checkpoint.load(path)
        assert "\n" not in str(error.value)


def test_truncated_checkpoint_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    checkpoint.save(path, {"model": {"w": torch.zeros(10000)}})
    path.write_bytes(path.read_bytes()[:-5000])
    with pytest.raises(UserError, match="is damaged"):
        checkpoint.load(path)


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(_same(a[key], b[key]) for key in a)
    return a == b


@pytest.mark.parametrize("signed", [True, False], ids=["with our digest", "of before it"])
def test_damage_is_refused_or_harmless(tmp_path: Path, signed: bool) -> None:
    """Flipped bits, zeroed runs, lost ends: 200 trials, and never other weights than were written."""
    torch.manual_seed(0)
    state = {"format": checkpoint.FORMAT, "model": {f"w{i}": torch.randn(7 * i + 1) for i in range(12)}, "step": 7}
    path, draw = tmp_path / "last.pt", random.Random(5)
    if signed:
        checkpoint.save(path, state)
    else:
        torch.save(state, path)
    assert _same(checkpoint.load(path), state)
    whole, refused = path.read_bytes(), 0
    for trial in range(200):
        damaged, at = bytearray(whole), draw.randrange(len(whole))
        if trial % 3 == 0:
            damaged[at : at + 300] = bytes(len(damaged[at : at + 300]))
        elif trial % 20 == 1:
            del damaged[at:]
        else:
            damaged[at] ^= 1 << draw.randrange(8)
        path.write_bytes(damaged)
        try:
            assert _same(checkpoint.load(path), state), (trial, at)
        except UserError as error:
            refused += 1
            assert "damaged" in str(error) or "no checkpoint" in str(error), error
    assert refused >= 190 if signed else refused >= 120  # an old file's padding is read by nobody


def test_a_damaged_checkpoint_names_those_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    checkpoint.save(path, {"model": {"w": torch.zeros(1000)}})
    checkpoint.link(path, tmp_path / "best.pt")
    checkpoint.save(tmp_path / "step-4.pt", {"step": 4})
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)  # best.pt is the same file
    with pytest.raises(UserError, match=r"last\.pt is damaged: .* such as step-4\.pt beside it$"):
        checkpoint.load(path)


def test_latest_run_is_the_newest_with_a_checkpoint(tmp_path: Path) -> None:
    assert checkpoint.latest_run(tmp_path / "none") is None
    for name in ("2026-01-01_00-00-00", "2026-01-02_00-00-00"):
        checkpoint.save(tmp_path / name / "checkpoints" / "last.pt", {"step": 1})
    (tmp_path / "2026-01-03_00-00-00").mkdir()
    assert checkpoint.latest_run(tmp_path).name == "2026-01-02_00-00-00"
