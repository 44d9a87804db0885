"""Shards behind URLs: `--out` writes there, `stage` brings them back, the cache stays within its bounds."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ingest.errors import UserError
from ingest.shards import remote
from ingest.verify import verify

fsspec = pytest.importorskip("fsspec")


@pytest.fixture
def shards(raw: Path, tmp_path: Path, ingest) -> Path:
    out = tmp_path / "local"
    assert ingest("folder", raw, "--spec", raw / "dataset.yaml", "--out", out, "--workers", 1).returncode == 0
    return out


def same(one: Path, other: Path) -> bool:
    names = sorted(path.name for path in one.iterdir())
    return names == sorted(path.name for path in other.iterdir()) and all(
        (one / name).read_bytes() == (other / name).read_bytes() for name in names
    )


def test_there_and_back(shards: Path, tmp_path: Path):
    url = f"memory://bucket/{tmp_path.name}"
    remote.upload(shards, url)
    staged = remote.stage(url, tmp_path / "cache")
    assert same(shards, staged)
    verify(staged, deep=True)
    before = {path.name: path.stat().st_mtime_ns for path in staged.glob("*.tar")}
    assert remote.stage(url, tmp_path / "cache") == staged
    assert {path.name: path.stat().st_mtime_ns for path in staged.glob("*.tar")} == before  # not fetched twice
    tar = next(staged.glob("*.tar"))
    tar.write_bytes(tar.read_bytes()[:100])  # cut short by whatever
    assert same(shards, remote.stage(url, tmp_path / "cache"))
    with pytest.raises(UserError, match="exists"):
        remote.upload(shards, url)


def test_the_cache_is_bounded(shards: Path, tmp_path: Path):
    total = sum(path.stat().st_size for path in shards.iterdir())
    staged = []
    for number in range(3):
        url = f"memory://bounded/{tmp_path.name}/{number}"
        remote.upload(shards, url)
        staged.append(remote.stage(url, tmp_path / "cache", max_bytes=int(2.5 * total)))
        os.utime(staged[-1], (number + 1, number + 1))
    assert [path.exists() for path in staged] == [False, True, True]
    with pytest.raises(UserError, match="the cache may hold 10"):
        remote.stage(url, tmp_path / "cache", max_bytes=10)


def test_what_is_not_there_is_named(tmp_path: Path):
    with pytest.raises(UserError, match=r"memory://nowhere has no dataset\.json"):
        remote.stage("memory://nowhere", tmp_path)
    with pytest.raises(UserError, match="nosuch"):
        remote.stage("nosuch://x", tmp_path)


def test_out_may_be_a_url(raw: Path, shards: Path, tmp_path: Path, ingest):
    url = f"file://{tmp_path}/elsewhere/set"
    words = ("folder", raw, "--spec", raw / "dataset.yaml", "--out", url, "--workers", 1)
    result = ingest(*words)
    assert result.returncode == 0, result.stderr
    assert same(shards, tmp_path / "elsewhere/set")
    again = ingest(*words)
    assert again.returncode == 2 and "exists" in again.stderr


@pytest.mark.slow
def test_a_real_s3_server(shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """moto's server speaks S3 over HTTP; s3fs talks to it as to any other."""
    pytest.importorskip("s3fs")
    pytest.importorskip("moto")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    for name, value in (
        ("AWS_ACCESS_KEY_ID", "test"),
        ("AWS_SECRET_ACCESS_KEY", "test"),
        ("AWS_DEFAULT_REGION", "us-east-1"),
        ("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}"),
    ):
        monkeypatch.setenv(name, value)
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(240):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.25)
        fsspec.filesystem("s3").mkdir("shards")
        remote.upload(shards, "s3://shards/tiny")
        assert same(shards, remote.stage("s3://shards/tiny", tmp_path / "cache"))
    finally:
        server.terminate()
        server.wait()
