"""Shards behind URLs that come as they are read, or ahead of that: each once, never half, within the cache's bounds."""

from __future__ import annotations

import shutil
import threading
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from ingest.errors import UserError
from ingest.shards.reader import ShardSet
from ingest.shards.remote import ahead, bucket
from ingest.shards.remote import cache as cache_module
from ingest.shards.remote.cache import Cache
from tests.shard_folder import write_shards

fsspec = pytest.importorskip("fsspec")


@pytest.fixture
def local(tmp_path: Path) -> Path:
    random = np.random.default_rng(0)

    def pairs(count: int) -> list[tuple[np.ndarray, np.ndarray | None]]:
        return [
            (random.integers(0, 256, (20, 30, 3), np.uint8), np.full((20, 30), i % 5, np.uint8)) for i in range(count)
        ]

    return write_shards(tmp_path / "shards", {"train": pairs(24), "val": pairs(6)}, schema=2)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each file was asked for."""
    found: Counter[str] = Counter()
    ask = bucket.Bucket._ask

    def counting(self: bucket.Bucket, name: str, begin: int | None, end: int | None) -> bytes:
        found[name] += 1
        time.sleep(0.02)
        return ask(self, name, begin, end)

    monkeypatch.setattr(bucket.Bucket, "_ask", counting)
    return found


def held(cache: Cache) -> int:
    sizes = []
    for path in cache.folder.glob("*/*"):
        try:
            sizes.append(path.stat().st_size)
        except FileNotFoundError:  # removed meanwhile
            continue
    return sum(sizes)


def test_shards_come_when_they_are_read(local: Path, tmp_path: Path, asked: Counter[str]) -> None:
    staged, there = ShardSet(f"file://{local}", "train", Cache(tmp_path / "cache")), ShardSet(local, "train")
    assert dict(asked) == {"train.index.npz": 1} and staged.keys == there.keys
    np.testing.assert_array_equal(staged.image(5), there.image(5))
    staged.will_need(range(len(staged)))  # does not wait for what is not there
    assert dict(asked) == {"train.index.npz": 1, "train-000001.tar": 1}
    for sample in range(len(there)):
        np.testing.assert_array_equal(staged.label(sample), there.label(sample))
    again = ShardSet(f"file://{local}", "train", Cache(tmp_path / "cache"))
    again.image(5)
    assert set(asked.values()) == {1} and len(asked) == 7  # neither by the index nor by another reader
    assert staged.staging[0].traffic.fetched_bytes == sum(one.stat().st_size for one in local.glob("train-*.tar"))
    assert 0 < staged.staging[0].traffic.stall_seconds < 60 and again.staging[0].traffic.stall_seconds == 0
    assert staged.record("train-000002").name == "train-000002"


def test_readers_share_a_download(local: Path, tmp_path: Path, asked: Counter[str]) -> None:
    sets = [ShardSet(f"file://{local}", "train", Cache(tmp_path / "cache")) for _ in range(4)]
    threads = [threading.Thread(target=one.image, args=[sample]) for one in sets for sample in range(len(one))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(asked.values()) == {1}


def test_a_plan_is_followed_within_the_cache(local: Path, tmp_path: Path, asked: Counter[str]) -> None:
    sizes = [one.stat().st_size for one in local.glob("train-*.tar")]
    index = (local / "train.index.npz").stat().st_size
    cache = Cache(tmp_path / "cache", index + int(2.5 * max(sizes)))  # two shards
    staged, there = ShardSet(f"file://{local}", "train", cache), ShardSet(local, "train")
    shards = np.array([3, 0, 5, 1, 4, 2])
    order = np.concatenate([np.arange(4) + 4 * shard for shard in shards])
    with staged.following(lambda epoch: order if epoch < 2 else order[:0], 0, 0) as reached:
        for epoch in range(2):
            for place, sample in enumerate(order):
                reached(epoch, place)
                np.testing.assert_array_equal(staged.image(sample), there.image(sample))
                assert held(cache) <= cache.max_bytes
    # Twice each, but for what was still there when the second epoch came to it.
    assert all(1 <= asked[f"train-{shard:06d}.tar"] <= 2 for shard in shards)
    assert not list(cache.folder.glob("*/*.partial"))


def test_a_download_that_ends_while_the_cache_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = Cache(tmp_path)
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "a.tar.partial").write_bytes(bytes(100))
    size = cache_module._size

    def after_the_end(path: Path) -> int:
        if path.suffix == ".partial" and path.exists():
            path.replace(path.with_suffix(""))
        return size(path)

    monkeypatch.setattr(cache_module, "_size", after_the_end)
    assert cache.held() == 100


def test_what_is_needed_last_goes_first(local: Path, tmp_path: Path) -> None:
    staged = ShardSet(f"file://{local}", "train", Cache(tmp_path / "cache"))
    order = np.arange(24).reshape(6, 4)[[2, 0, 1, 5, 3, 4]].ravel()
    watch = ahead.Ahead(staged._tars, staged._shard_ends, lambda epoch: order, 0)  # type: ignore[arg-type]
    watch._enqueue(0, 8)
    watch.reached(0, 9)
    # Shard 1 is being read; 5, 3 and 4 come; 2 and 0 are not known to come.
    assert watch.next_use().tolist() == [np.inf, 9, np.inf, 16, 20, 12]
    watch._enqueue(1, 0)
    assert watch.next_use().tolist() == [28, 9, 24, 16, 20, 12]
    assert list(watch._queue) == [1, 5, 3, 4, 2, 0, 1, 5, 3, 4]


def test_uses_by_a_loop() -> None:
    random = np.random.default_rng(0)
    ends = np.array([3, 4, 9, 12])
    for _ in range(50):
        samples = random.integers(-1, 12, 10)
        begin = int(random.integers(0, 10))
        found = ahead.uses(samples, ends, begin)
        for shard, (low, high) in enumerate(zip([0, 3, 4, 9], ends, strict=True)):
            places = [place for place in range(begin, 10) if low <= samples[place] < high]
            assert found.first[shard] == (places[0] if places else 10)
            assert found.last[shard] == (places[-1] if places else -1)


def test_a_download_that_fails_leaves_nothing_and_names_the_url(
    local: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"file://{local}"
    cache = Cache(tmp_path / "cache")
    staged = ShardSet(url, "train", cache)
    folder = staged.folder

    def broken(*_: object, **__: object) -> bytes:
        raise OSError("connection reset")

    with monkeypatch.context() as patched:
        patched.setattr(bucket.time, "sleep", lambda _: None)
        patched.setattr(type(staged._staged.bucket.system), "cat_file", broken)  # type: ignore[union-attr]
        with pytest.raises(UserError, match=rf"{url}/train-000000.tar cannot be fetched \(connection reset; tried 4"):
            staged.image(0)
    assert not list(folder.glob("*.tar*"))
    tar = local / "train-000001.tar"
    content = tar.read_bytes()
    tar.write_bytes(content[:-10] + b"0123456789")
    with pytest.raises(UserError, match=rf"{url}/train-000001.tar is not the file that dataset.json lists"):
        staged.image(4)
    tar.unlink()
    with pytest.raises(UserError, match=rf"{url}/train-000001.tar is missing: upload"):
        staged.image(4)
    assert not list(folder.glob("*.tar*"))
    staged.image(0)  # a killed process leaves part of a file, and a full disk cuts one short: neither is read
    (folder / "train-000002.tar.partial").write_bytes(b"x" * 10**6)
    (folder / "train-000003.tar").write_bytes(b"x")
    for sample in (8, 12):
        np.testing.assert_array_equal(staged.image(sample), ShardSet.image(staged, sample))
    assert not list(folder.glob("*.partial"))


def test_leftovers_and_unused_datasets_make_room(local: Path, tmp_path: Path) -> None:
    total = sum(one.stat().st_size for one in local.glob("train*.[tn]*"))
    cache = Cache(tmp_path / "cache", total + 1000)
    old = cache.folder / "0123"
    old.mkdir(parents=True)
    (old / "train-000000.tar").write_bytes(b"x" * 1000)
    (old / "train-000001.tar.partial").write_bytes(b"x" * 1000)
    in_use = cache.used(cache.folder / "4567")
    (cache.folder / "4567" / "small").write_bytes(b"x" * 1000)
    staged = ShardSet(f"file://{local}", "train", cache)
    for sample in range(24):
        staged.image(sample)
    assert not old.exists() and (cache.folder / "4567" / "small").exists()
    assert len(list(staged.folder.glob("*.tar"))) == 6 and held(cache) <= cache.max_bytes
    in_use.close()
    with pytest.raises(UserError, match=r"bytes, the cache may hold .*data\.staging_gb"):
        ShardSet(f"file://{local}", "val", Cache(tmp_path / "other", (local / "val.index.npz").stat().st_size + 10))


def test_a_whole_folder_from_which_a_shard_goes_is_whole_no_more(local: Path, tmp_path: Path) -> None:
    from ingest.shards.remote import urls

    whole = urls.stage(f"file://{local}", tmp_path / "cache")
    total = sum(one.stat().st_size for one in whole.iterdir())
    shutil.rmtree(tmp_path / "cache" / "none", ignore_errors=True)
    (whole / "train-000000.tar").unlink()
    tight = Cache(tmp_path / "cache", total - 1)
    staged = ShardSet(f"file://{local}", "train", tight)
    staged.image(0)
    assert not (whole / "dataset.json").exists() and held(tight) <= tight.max_bytes
