"""Ranks under torchrun: one that fails, hangs or is killed; torchrun killed; what is told, and that all of them end."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import ROOT
from tests.shard_folder import smooth_scene, write_shards
from train import torchrun

FOREVER = 100_000  # steps


class Job:
    """Two ranks of `python -m train` under torchrun; what they say goes to a file."""

    def __init__(self, folder: Path, recipe: dict[str, Any], *words: str, restarts: int = 0) -> None:
        (folder / "r.yaml").write_text(yaml.safe_dump(recipe))
        self.log = folder / f"{len(list(folder.glob('*.log')))}.log"
        agent = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", f"--max-restarts={restarts}"]
        with open(self.log, "wb") as out:
            self.process = subprocess.Popen(
                [sys.executable, *agent, "-m", "train", "--cfg", str(folder / "r.yaml"), *words],
                cwd=ROOT,
                env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
                stdout=out,
                stderr=out,
            )

    @property
    def text(self) -> str:
        return self.log.read_text()

    @property
    def errors(self) -> list[str]:
        return re.findall(r"^error: .*", self.text, re.MULTILINE)

    def ranks(self) -> list[int]:
        tasks = Path(f"/proc/{self.process.pid}/task").glob("*/children")
        return sorted(int(child) for path in tasks for child in path.read_text().split())

    def until(self, seen: Callable[[], object]) -> None:
        patience = time.monotonic() + 120
        while not seen():
            assert time.monotonic() < patience, self.text
            time.sleep(0.02)

    def training(self) -> None:
        self.until(lambda: "step 6/" in self.text)

    def end(self) -> int:
        return self.process.wait(timeout=120)

    def close(self) -> None:
        for pid in self.ranks():
            os.kill(pid, signal.SIGKILL)
        self.process.kill()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Job]]:
    jobs: list[Job] = []

    def new(*arguments: Any, **keywords: Any) -> Job:
        jobs.append(Job(tmp_path, *arguments, **keywords))
        return jobs[-1]

    yield new
    for job in jobs:
        if job.process.poll() is None:
            job.close()


@pytest.fixture
def recipe(raw_recipe: dict[str, Any]) -> dict[str, Any]:
    raw_recipe["data"]["batch_size"] = 2
    raw_recipe["train"] |= {"steps": FOREVER, "save_every_steps": 2, "val_every_steps": FOREVER}
    return raw_recipe


def damaged(recipe: dict[str, Any], folder: Path) -> tuple[Path, bytes]:
    """Points the recipe at shards with one broken image. The tar that holds it, and its sound bytes."""
    shards = write_shards(folder / "bad", {"train": [smooth_scene(40, 56, seed) for seed in range(12)]})
    recipe["data"] |= {"path": str(shards), "val": ""}
    tar = shards / "train-000001.tar"
    sound = tar.read_bytes()
    at = sound.index(b"IDAT")
    tar.write_bytes(sound[: at + 4] + bytes(196) + sound[at + 200 :])
    return tar, sound


def test_a_file_that_one_rank_finds_broken_ends_both(start: Any, recipe: dict[str, Any], tmp_path: Path) -> None:
    damaged(recipe, tmp_path)
    job = start(recipe)
    assert job.end() != 0
    assert len(job.errors) == 1 and "train-000001.tar is broken" in job.errors[0], job.text
    assert "Connection" not in job.text and "RuntimeError" not in job.text, job.text
    # torchrun's own words come after it, and end with it
    assert job.errors[0] in job.text.splitlines()[-2]


@pytest.mark.slow
def test_restarts_take_over_once_the_file_is_whole_again(start: Any, recipe: dict[str, Any], tmp_path: Path) -> None:
    tar, sound = damaged(recipe, tmp_path)
    recipe["train"]["steps"] = 6
    job = start(recipe, "--resume", "auto", restarts=5)
    job.until(lambda: job.errors)
    tar.write_bytes(sound)
    assert job.end() == 0, job.text
    assert len(list((tmp_path / "saved" / "toy").iterdir())) == 1 and "step 6/6" in job.text


@pytest.mark.slow
@pytest.mark.parametrize("mistake", ["train.stepz=4", "data.path=/nowhere"])
def test_a_mistake_of_all_ranks_is_told_once(start: Any, recipe: dict[str, Any], mistake: str) -> None:
    job = start(recipe, mistake)
    assert job.end() != 0
    assert len(job.errors) == 1 and mistake.partition("=")[mistake.startswith("data") * 2] in job.errors[0], job.text


@pytest.mark.slow
def test_a_killed_rank_is_named_by_the_other(
    start: Any, recipe: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _temporary_folder(tmp_path, monkeypatch)
    job = start(recipe)
    job.training()
    one = job.ranks()[1]
    os.kill(one, signal.SIGKILL)
    assert job.end() != 0
    assert len(job.errors) == 1 and f"rank 1 (pid {one} on " in job.errors[0], job.text
    assert "ended without a word" in job.errors[0] and "RuntimeError" not in job.text
    assert not list((tmp_path / "tmp").glob("torchelastic_*"))


@pytest.mark.slow
def test_a_rank_that_stops_is_named_and_the_other_ends(start: Any, recipe: dict[str, Any]) -> None:
    recipe["train"]["rank_timeout"] = 0.05  # three seconds
    job = start(recipe)
    job.training()
    one = job.ranks()[1]
    os.kill(one, signal.SIGSTOP)
    job.until(lambda: job.errors)
    assert len(job.errors) == 1 and f"rank 1 (pid {one} on " in job.errors[0] and "stopped" in job.errors[0], job.text
    os.kill(one, signal.SIGCONT)
    assert job.end() != 0
    assert len(job.errors) == 1, job.text


@pytest.mark.slow
def test_ranks_end_with_torchrun_and_a_folder_has_one_training(
    start: Any, recipe: dict[str, Any], tmp_path: Path
) -> None:
    job = start(recipe, "--resume", "auto")
    job.training()
    ranks = job.ranks()
    words = ["--cfg", str(tmp_path / "r.yaml"), "--resume", "auto"]
    second = subprocess.run([sys.executable, "-m", "train", *words], cwd=ROOT, capture_output=True, text=True)
    assert second.returncode == 2 and second.stderr.count("\n") == 1, second.stderr
    assert f"is in use by another training (pid {ranks[0]} on " in second.stderr

    os.kill(job.process.pid, signal.SIGKILL)
    job.process.wait()
    job.until(lambda: not any(Path(f"/proc/{rank}").exists() for rank in ranks))
    go_on = subprocess.run(
        [sys.executable, "-m", "train", *words, "train.steps=7"], cwd=ROOT, capture_output=True, text=True
    )
    assert go_on.returncode == 0 and "from step " in go_on.stdout, go_on.stderr
    assert len(list((tmp_path / "saved" / "toy").iterdir())) == 1


def test_folders_that_another_rank_removes_meanwhile_are_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    own = tmp_path / "torchelastic_a" / "run" / "attempt_0" / "0"
    (own.parent / "1").mkdir(parents=True)
    own.mkdir()
    monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", str(own / "error.json"))
    walk = os.walk

    def raced(root: str, topdown: bool) -> Iterator[tuple[str, list[str], list[str]]]:
        for each in walk(root, topdown):
            if each[0] == str(own):
                shutil.rmtree(tmp_path / "torchelastic_a")
            yield each

    monkeypatch.setattr(torchrun.os, "walk", raced)
    torchrun.remove_empty_folders()
    assert not list(tmp_path.iterdir())


def test_a_folder_that_another_rank_removes_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "torchelastic_a" / "run" / "attempt_0" / "0" / "error.json"
    monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", str(path))
    mkdir, removed = Path.mkdir, []

    def raced(self: Path, *words: Any, **named: Any) -> None:
        mkdir(self, *words, **named)
        if self == path.parent and not removed:
            removed.append(self)
            self.rmdir()

    monkeypatch.setattr(Path, "mkdir", raced)
    torchrun.write_error("error: a line")
    assert removed and "error: a line" in path.read_text()


@pytest.mark.slow
def test_torchruns_folders_do_not_stay(
    start: Any, recipe: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _temporary_folder(tmp_path, monkeypatch)
    recipe["train"]["steps"] = 2
    job = start(recipe)
    assert job.end() == 0, job.text
    assert not list((tmp_path / "tmp").glob("torchelastic_*"))


def _temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """tmp_path/tmp is the temporary folder, of what is started, too."""
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.setattr(tempfile, "tempdir", None)
