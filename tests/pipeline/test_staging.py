"""The stream from a URL is the stream from a local folder, also where the cache holds but a part of it."""

from __future__ import annotations

import contextlib
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from ingest.errors import UserError
from ingest.shards.folders import Folder
from ingest.shards.joined import open_split
from ingest.shards.reader import ShardSet
from ingest.shards.remote.cache import Cache
from pipeline.augment import Augment
from pipeline.batch import Batch
from pipeline.loader import TrainLoader
from pipeline.request import broken
from tests.loaders import eval_loader, train_loader
from tests.shard_folder import write_shards

AUGMENT = Augment(crop=(24, 24), base_size=30)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    random = np.random.default_rng(0)
    pairs = [(random.integers(0, 256, (20, 30, 3), np.uint8), np.full((20, 30), i % 5, np.uint8)) for i in range(40)]
    return write_shards(tmp_path_factory.mktemp("staging"), {"train": pairs, "val": pairs[:9]}, schema=2)


def two_shards(folder: Path, where: Path) -> Cache:
    largest = max(one.stat().st_size for one in folder.glob("*.tar"))
    indexes = sum(one.stat().st_size for one in folder.glob("*.npz"))
    return Cache(where, indexes + 4 * largest)


def same(one: list[Batch], other: list[Batch]) -> bool:
    return len(one) == len(other) and all(
        a.keys == b.keys and a.images.equal(b.images) and a.labels.equal(b.labels)  # type: ignore[union-attr,arg-type]
        for a, b in zip(one, other, strict=True)
    )


def first(loader: TrainLoader, count: int) -> list[Batch]:
    with contextlib.closing(iter(loader)) as batches:
        return list(islice(batches, count))


def test_same_batches_from_a_url(folder: Path, tmp_path: Path) -> None:
    cache = two_shards(folder, tmp_path / "cache")
    staged, there = ShardSet(f"file://{folder}", "train", cache), ShardSet(folder, "train")
    options = {"shuffle_window": 2, "threads": 2}
    mine, theirs = train_loader(staged, AUGMENT, 4, **options), train_loader(there, AUGMENT, 4, **options)
    assert mine.fingerprint() == theirs.fingerprint()
    expected = first(theirs, 25)  # two epochs and a half
    assert same(first(mine, 13), expected[:13])
    other = train_loader(ShardSet(f"file://{folder}", "train", cache), AUGMENT, 4, **options)
    other.load_state_dict(mine.state_dict())
    assert same(first(other, 12), expected[13:])
    fetched = sum(part.traffic.fetched_shards for shards in (staged, other.shards) for part in shards.staging)
    assert 10 <= fetched <= 35  # ten shards an epoch: none comes again and again
    validated = [
        list(eval_loader(shards, 2)) for shards in (ShardSet(f"file://{folder}", "val", cache), ShardSet(folder, "val"))
    ]
    assert same(*validated) and len(validated[0]) == 5


def test_a_broken_sample_names_the_url_to_verify(folder: Path, tmp_path: Path) -> None:
    places = [Folder(f"file://{folder}"), Folder(f"file://{folder.parent}/./{folder.name}", 0.5)]
    for shards in (open_split(places[:1], "train", Cache(tmp_path)), open_split(places, "train", Cache(tmp_path))):
        assert f"`python -m ingest verify file://{folder}`" in str(broken(shards, 3, "image", "it is torn"))
    assert f"`python -m ingest verify {folder}`" in str(broken(ShardSet(folder, "train"), 3, "image", "it is torn"))


def test_several_folders(folder: Path, tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache")
    local = [Folder(str(folder)), Folder(f"{folder}/../{folder.name}", 0.5)]
    urls = [Folder(f"file://{folder}"), Folder(f"file://{folder.parent}/./{folder.name}", 0.5)]
    streams = []
    for places in (local, urls, [local[0], urls[1]]):
        loader = train_loader(open_split(places, "train", cache), AUGMENT, 4, shuffle_window=3)
        streams.append([(batch.images, batch.labels) for batch in first(loader, 20)])
    for stream in streams[1:]:
        assert all(a.equal(c) and b.equal(d) for (a, b), (c, d) in zip(streams[0], stream, strict=True))


def test_a_cache_that_cannot_hold_what_is_shuffled_is_refused(folder: Path, tmp_path: Path) -> None:
    staged = ShardSet(f"file://{folder}", "train", two_shards(folder, tmp_path / "cache"))
    with pytest.raises(
        UserError, match=r"shuffle_window = 0 reads all 10 shards of file://.* set data.shuffle_window=2 "
    ):
        train_loader(staged, AUGMENT, 4)
    with pytest.raises(UserError, match=r"shuffle_window = 7 reads 7 shards of file://"):
        train_loader(staged, AUGMENT, 4, shuffle_window=7)
