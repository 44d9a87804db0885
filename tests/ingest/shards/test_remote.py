"""Shards behind URLs: `--out` writes there, `stage` brings them back, the cache stays within its bounds."""

from __future__ import annotations

import math
import os
from pathlib import Path

import pytest

from bench.measuring import object_store
from ingest.errors import UserError
from ingest.shards.remote import urls
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
    urls.upload(shards, url)
    staged = urls.stage(url, tmp_path / "cache")
    assert same(shards, staged)
    verify(staged, deep=True)
    before = {path.name: path.stat().st_mtime_ns for path in staged.glob("*.tar")}
    assert urls.stage(url, tmp_path / "cache") == staged
    assert {path.name: path.stat().st_mtime_ns for path in staged.glob("*.tar")} == before  # not fetched twice
    tar = next(staged.glob("*.tar"))
    tar.write_bytes(tar.read_bytes()[:100])  # cut short by whatever
    assert same(shards, urls.stage(url, tmp_path / "cache"))
    with pytest.raises(UserError, match="exists"):
        urls.upload(shards, url)


def test_the_cache_is_bounded(shards: Path, tmp_path: Path):
    total = sum(path.stat().st_size for path in shards.iterdir())
    staged = []
    for number in range(3):
        url = f"memory://bounded/{tmp_path.name}/{number}"
        urls.upload(shards, url)
        staged.append(urls.stage(url, tmp_path / "cache", max_bytes=int(2.5 * total)))
        os.utime(staged[-1], (number + 1, number + 1))
    assert [path.exists() for path in staged] == [False, True, True]
    with pytest.raises(UserError, match="the cache may hold 10"):
        urls.stage(url, tmp_path / "cache", max_bytes=10)


def test_what_is_not_there_is_named(tmp_path: Path):
    with pytest.raises(UserError, match=r"memory://nowhere has no dataset\.json"):
        urls.stage("memory://nowhere", tmp_path)
    with pytest.raises(UserError, match="nosuch"):
        urls.stage("nosuch://x", tmp_path)


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
    with object_store.serving(math.inf) as (_, environment):
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        fsspec.filesystem("s3").mkdir("shards")
        urls.upload(shards, "s3://shards/tiny")
        assert same(shards, urls.stage("s3://shards/tiny", tmp_path / "cache"))
