"""ShardSet: the bytes of every sample, and what it says when a tar changes while it is open."""

from __future__ import annotations

import gc
import io
import itertools
import os
import tarfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ingest.errors import UserError
from ingest.shards.reader import ShardSet
from pipeline.augment import Augment
from tests.loaders import train_loader
from tests.shard_folder import smooth_scene, write_shards

COUNT = 10


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_shards(tmp_path / "shards", {"train": [smooth_scene(50, 60, seed=i) for i in range(COUNT)]})


def test_every_sample_has_the_bytes_that_tarfile_reads(folder: Path) -> None:
    shards = ShardSet(folder, "train")
    assert shards.counts == [4, 4, 2] and len(shards) == COUNT
    for sample, key in enumerate(shards.keys):
        with tarfile.open(shards.shard_of(sample)) as tar:
            assert shards.image(sample).tobytes() == tar.extractfile(f"{key}.png").read()
            assert shards.label(sample).tobytes() == tar.extractfile(f"{key}.seg.png").read()
        image, _ = smooth_scene(50, 60, seed=sample)
        np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(shards.image(sample)))), image)


def test_bytes_stay_when_the_shards_are_gone(folder: Path) -> None:
    shards = ShardSet(folder, "train")
    image, copy = shards.image(3), shards.image(3).tobytes()
    del shards
    gc.collect()
    assert image.tobytes() == copy


def test_files_are_closed_with_the_set(folder: Path) -> None:
    def open_tars() -> int:
        links = [f"/proc/self/fd/{name}" for name in os.listdir("/proc/self/fd")]
        return sum(os.path.exists(link) and str(folder) in os.readlink(link) for link in links)

    shards = ShardSet(folder, "train")
    assert open_tars() == 0  # each is opened when it is first read
    for sample in range(COUNT):
        shards.image(sample)
    assert open_tars() == 3
    del shards
    gc.collect()
    assert open_tars() == 0
    (folder / "train-000001.tar").write_bytes(b"short")
    with pytest.raises(UserError):
        ShardSet(folder, "train")
    gc.collect()
    assert open_tars() == 0


def test_a_tar_truncated_in_use_is_an_error_and_not_the_end_of_the_process(folder: Path) -> None:
    shards = ShardSet(folder, "train")
    tar = folder / "train-000001.tar"
    shards.image(4)  # opens the tar
    os.truncate(tar, 2000)
    assert shards.image(0).size  # other shards are as they were
    with pytest.raises(UserError, match=r"train-000001\.tar ends inside train-7\.png: it was truncated while in use"):
        shards.image(7)
    loader = train_loader(shards, Augment(crop=(32, 32), base_size=48), 5)
    with pytest.raises(UserError, match=r"train-000001\.tar ends inside train-.*copy it again or ingest"):
        list(itertools.islice(loader, 2))
    with pytest.raises(UserError, match=r"train-000001\.tar has 2000 bytes, dataset\.json says"):
        ShardSet(folder, "train")


def test_skipping_does_not_hide_a_truncated_tar(folder: Path) -> None:
    shards = ShardSet(folder, "train")
    shards.image(4)  # opens the tar
    os.truncate(folder / "train-000001.tar", 2000)
    loader = train_loader(shards, Augment(crop=(32, 32), base_size=48), 5, on_bad_sample="skip")
    with pytest.raises(UserError, match="truncated while in use"):
        list(itertools.islice(loader, 2))


def test_a_tar_rewritten_in_place_is_noticed(folder: Path) -> None:
    shards = ShardSet(folder, "train")
    other = (folder / "train-000000.tar").read_bytes()
    with open(folder / "train-000001.tar", "r+b") as tar:  # the same file, other content
        tar.write(other)
    with pytest.raises(UserError, match=r"train-000001\.tar has another file than 'train-4\.png' where its index says"):
        shards.image(4)


def test_a_failing_disk_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> int:
        raise OSError(116, "Stale file handle")

    shards = ShardSet(folder, "train")
    monkeypatch.setattr(os, "preadv", fail)
    with pytest.raises(UserError, match=r"train-2\.png in .*train-000000\.tar cannot be read \(Stale file handle\)"):
        shards.image(2)


def test_short_reads_are_gone_on_with(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Network file systems may give fewer bytes than asked for."""
    shards = ShardSet(folder, "train")
    expected = shards.image(2).tobytes()
    whole_read, sizes = os.preadv, []

    def short(file: int, buffers: list[memoryview], offset: int) -> int:
        sizes.append(whole_read(file, [buffers[0][:100]], offset))
        return sizes[-1]

    monkeypatch.setattr(os, "preadv", short)
    assert shards.image(2).tobytes() == expected and len(sizes) > 5


def test_too_many_shards_for_the_limit_of_open_files(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> int:
        raise OSError(24, "Too many open files")

    shards = ShardSet(folder, "train")
    monkeypatch.setattr(os, "open", fail)
    with pytest.raises(UserError, match=r"too many open files; allow more \(ulimit -n\)"):
        shards.image(0)


def test_tars_that_are_not_needed_make_room_when_the_limit_is_reached(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shards = ShardSet(folder, "train")
    expected = [shards.image(sample).tobytes() for sample in range(COUNT)]
    del shards
    gc.collect()
    shards, real, opened = ShardSet(folder, "train"), os.open, []

    def one_at_a_time(*words: object, **options: object) -> int:
        opened[:] = [link for link in opened if os.path.exists(f"/proc/self/fd/{link}")]
        if opened:
            raise OSError(24, "Too many open files")
        opened.append(real(*words, **options))  # type: ignore[arg-type]
        return opened[-1]

    monkeypatch.setattr(os, "open", one_at_a_time)
    assert [shards.image(sample).tobytes() for sample in range(COUNT)] == expected


def test_a_tar_that_was_truncated_before_it_was_opened_is_named(folder: Path) -> None:
    shards = ShardSet(folder, "train")
    os.truncate(folder / "train-000001.tar", 2000)
    with pytest.raises(UserError, match=r"train-000001\.tar has 2000 bytes, dataset\.json says"):
        shards.image(7)


def test_asking_ahead_changes_nothing(folder: Path) -> None:
    shards = ShardSet(folder, "train")
    before = [shards.image(sample).tobytes() for sample in range(COUNT)]
    shards.will_need(np.array([9, 0, 3]))
    shards.will_need(range(COUNT))
    assert [shards.image(sample).tobytes() for sample in range(COUNT)] == before


def test_threads_may_read_while_tars_are_closed_for_others(folder: Path) -> None:
    """With room for one open tar, each read closes another: none gets the bytes of a file opened in its place."""
    shards = ShardSet(folder, "train")
    expected = [shards.image(sample).tobytes() for sample in range(COUNT)]
    shards._tars._limit = 1
    shards._tars._open.clear()

    def read(seed: int) -> bool:
        chance = np.random.default_rng(seed)
        return all(shards.image(sample).tobytes() == expected[sample] for sample in chance.integers(0, COUNT, 300))

    with ThreadPoolExecutor(6) as pool:
        assert all(pool.map(read, range(6)))
    assert len(shards._tars._open) == 1
