"""Shards made by a Dask cluster: the bytes of one machine, also where a worker is killed; mistakes in a line."""

from __future__ import annotations

import hashlib
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ingest import cluster, writer
from ingest.convert import Rules
from ingest.datasets.folder import find, load_spec
from ingest.errors import UserError
from ingest.plan import plan
from ingest.verify import verify

distributed = pytest.importorskip("distributed")


def hashes(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


def job_of(raw: Path, folder: Path) -> cluster.Job:
    found = find(raw, load_spec(str(raw / "dataset.yaml")))
    folder.mkdir(parents=True, exist_ok=True)
    return cluster.Job(plan(found, 10_000, 0)[0], "mark", Rules(found.labels, tuple(found.classes), folder=str(folder)))


@pytest.fixture(scope="module")
def two_workers() -> Iterator[Any]:
    """A scheduler and two worker processes, a shard each at a time."""
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as found:
        yield found


# --- a task, without a cluster ---


def test_a_task_makes_the_shard_that_one_machine_makes(
    raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = find(raw, load_spec(str(raw / "dataset.yaml")))
    writer.write(found, tmp_path / "whole", writer.Settings(shard_size=10_000, seed=0, command="", options={}))
    monkeypatch.chdir(tmp_path)
    job = job_of(Path("raw"), tmp_path / "shared")  # sources by relative paths
    packed = cluster._packed(job)
    monkeypatch.chdir("/")  # as workers run somewhere else
    record = cluster.make(packed)
    made = hashes(tmp_path / "shared")
    assert made == {name: hash for name, hash in hashes(tmp_path / "whole").items() if name in made} and len(made) == 3
    assert (tmp_path / "shared" / f"{job.shard.name}.json").read_bytes() == record


def test_a_shard_that_is_there_is_not_made_again(raw: Path, tmp_path: Path) -> None:
    job = job_of(raw, tmp_path / "shared")
    (tmp_path / "shared" / f"{job.shard.name}.sources").write_text("mark")
    cluster.make(cluster._packed(job))
    tar = tmp_path / "shared" / f"{job.shard.name}.tar"
    before = tar.stat().st_ino
    cluster.make(cluster._packed(job))
    assert tar.stat().st_ino == before
    cluster.make(cluster._packed(replace(job, mark="of other sources")))
    assert tar.stat().st_ino != before


def test_what_is_wrong_with_a_worker_is_told(raw: Path, tmp_path: Path) -> None:
    job = job_of(raw, tmp_path / "shared")
    with pytest.raises(UserError, match=r"on worker .*: numpy is .*, where the ingest was started 0\.1: .* install"):
        cluster.make(cluster._packed(replace(job, versions={"numpy": "0.1"})))
    shutil.rmtree(tmp_path / "shared")
    with pytest.raises(UserError, match=r"on worker .*: there is no .*/shared: give an --out in a folder that all"):
        cluster.make(cluster._packed(job))
    job = job_of(raw, tmp_path / "shared")
    Path(job.shard.samples[0].pair.image.path).unlink()
    with pytest.raises(UserError, match=r"on worker .* cannot be read"):
        cluster.make(cluster._packed(job))
    assert not list((tmp_path / "shared").iterdir())


def test_an_address_where_no_one_answers(
    raw: Path, tmp_path: Path, quick: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "_PATIENCE", 0.3)
    for address in ("tcp://127.0.0.1:9", "nowhere"):
        words = ["folder", raw, "--spec", raw / "dataset.yaml", "--out", tmp_path / "out", "--dask", address]
        result = quick(*words)
        assert result.returncode == 2, result.stderr
        assert f"--dask {address}: no Dask scheduler answers there" in result.stderr.strip().splitlines()[-1]
    assert not list(tmp_path.glob("out*"))


def test_files_that_show_late_are_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    late = tmp_path / "late.json"
    monkeypatch.setattr(cluster.time, "sleep", lambda seconds: late.write_text(""))
    cluster._wait_for([late])
    monkeypatch.setattr(cluster, "_SHOWN_LATE", 0)
    with pytest.raises(UserError, match="is not to be seen here"):
        cluster._wait_for([tmp_path / "never.json"])


def test_packing_keeps_everything_but_relative_paths(raw: Path, tmp_path: Path) -> None:
    job = job_of(raw, tmp_path)
    assert pickle.loads(cluster._packed(job)) == job


# --- a cluster of two worker processes ---


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """16 pairs that take some seconds as PNG, and their spec."""
    rng = np.random.default_rng(0)
    for number in range(16):
        for kind in ("img", "lbl"):
            (tmp_path / "large" / kind).mkdir(parents=True, exist_ok=True)
        coarse = Image.fromarray(rng.integers(0, 256, (60, 80, 3), dtype=np.uint8))
        coarse.resize((1600, 1200)).save(tmp_path / "large" / "img" / f"{number}.jpg")
        Image.fromarray(rng.integers(0, 2, (1200, 1600), dtype=np.uint8)).save(
            tmp_path / "large" / "lbl" / f"{number}.png"
        )
    spec = "name: large\nclasses: [a, b]\nsplits:\n  train: {images: 'img/*.jpg', labels: 'lbl/*.png'}\n"
    (tmp_path / "large" / "dataset.yaml").write_text(spec)
    return tmp_path / "large"


@pytest.mark.slow
def test_a_killed_worker_costs_its_shard_s_time_only(large: Path, tmp_path: Path, two_workers: Any) -> None:
    words = [sys.executable, "-m", "ingest", "folder", str(large), "--spec", str(large / "dataset.yaml")]
    words += ["--image-format", "png", "--shard-size", "800kB"]
    subprocess.run([*words, "--out", str(tmp_path / "one")], check=True, capture_output=True)
    out = tmp_path / "many"
    with distributed.Client(two_workers, set_as_default=False) as client:
        pids = client.run(os.getpid)
        running = subprocess.Popen(
            [*words, "--out", str(out), "--dask", two_workers.scheduler_address], stderr=subprocess.PIPE, text=True
        )
        partial = out.with_name("many.partial")
        while len(list(partial.glob("*.json"))) < 3:  # plan.json and two shards
            assert running.poll() is None, running.communicate()
            time.sleep(0.01)
        whole = {path.name: path.stat().st_ino for path in partial.glob("train-*.json")}
        (busy, *_) = [worker for worker, keys in client.processing().items() if keys]
        os.kill(pids[busy], signal.SIGKILL)
    _, said = running.communicate(timeout=200)
    assert running.returncode == 0, said
    assert len(list(out.glob("*.tar"))) > 4 and hashes(out) == hashes(tmp_path / "one")
    assert {name: (out / name).stat().st_ino for name in whole} == whole  # what was done stayed
    verify(out, deep=False)
    assert pids.keys() != set(two_workers.scheduler_info["workers"])  # one of the two is another now


@pytest.mark.slow
def test_a_bucket_gets_the_bytes_of_one_machine(raw: Path, tmp_path: Path, two_workers: Any, ingest: Any) -> None:
    words = ["folder", raw, "--spec", raw / "dataset.yaml", "--shard-size", "10kB"]
    assert ingest(*words, "--out", tmp_path / "one").returncode == 0
    url, broken = f"file://{tmp_path}/bucket", next((raw / "img" / "val").glob("*.jpg"))
    sound = broken.read_bytes()
    broken.write_bytes(b"x" * len(sound))
    os.utime(broken, (1, 1))
    stopped = ingest(*words, "--out", url, "--dask", two_workers.scheduler_address)
    assert stopped.returncode == 2 and f"{broken.name}" in stopped.stderr.strip().splitlines()[-1], stopped.stderr
    assert "shards are done: go on with --resume" in stopped.stderr
    before = {path.name: path.stat().st_ino for path in (tmp_path / "bucket").glob("train-*.tar")}
    broken.write_bytes(sound)
    result = ingest(*words, "--out", url, "--dask", two_workers.scheduler_address, "--resume")
    assert result.returncode == 0, result.stderr
    assert hashes(tmp_path / "bucket") == hashes(tmp_path / "one")
    kept = [name for name, inode in before.items() if (tmp_path / "bucket" / name).stat().st_ino == inode]
    assert kept
