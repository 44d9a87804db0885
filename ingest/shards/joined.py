"""Several shard folders of one class list, seen as one split."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ingest.errors import UserError, brief
from ingest.shards import folders
from ingest.shards.areas import Areas
from ingest.shards.folders import Folder, Part
from ingest.shards.lazy_keys import LazyKeys
from ingest.shards.manifest import Manifest, ShardRecord, Split
from ingest.shards.reader import Bytes, ShardSet
from ingest.shards.remote.ahead import Order
from ingest.shards.remote.cache import Cache
from ingest.shards.remote.staged import Staging
from ingest.shards.wording import count


def open_split(places: Sequence[Folder], split: str, cache: Cache | None = None) -> ShardSet:
    """The split of that name in all these folders. UserError as of `ShardSet`, and where folders do not go together.

    cache: where those behind URLs are staged, if not in the default one.
    """
    opened = [ShardSet(one.path, split, cache) for one in places]
    if len(opened) == 1 and places[0].weight == 1:
        return opened[0]
    return JoinedShards(opened, places)


class JoinedShards(ShardSet):
    """The samples of all folders, one folder after the other. A key begins with its folder's name: `camvid/0001`.

    Classes and channels must be the same in all; palette, mean and std are those of the first folder. Of pixels per
    class each folder's count as often as an epoch visits them.
    """

    def __init__(self, opened: Sequence[ShardSet], places: Sequence[Folder]) -> None:
        """opened: the split in each folder, at least one; places: how the folders were named. UserError where they
        differ in what must be the same."""
        first = opened[0]
        for one, place in zip(opened[1:], places[1:], strict=True):
            _refuse_other(first, one, (places[0].path, place.path))
        self._opened = list(opened)
        self.folder, self.split = Path(folders.shown(list(places))), first.split
        self.labeled = first.labeled
        self.parts = [
            Part(one.folder, len(one), place.weight, place.path) for one, place in zip(opened, places, strict=True)
        ]
        self.manifest = _manifest(opened, self.parts)
        self.counts = [count for one in opened for count in one.counts]
        self._ends = np.cumsum([len(one) for one in opened])
        self._prefixes = _prefixes(places)
        self.keys = LazyKeys(int(self._ends[-1]), self._key)
        self.sizes_hw = np.concatenate([one.sizes_hw for one in opened])
        self.image_formats = frozenset(itertools.chain(*(one.image_formats for one in opened)))
        self.raw = all(one.raw for one in opened)
        self.by_rows = all(one.by_rows for one in opened)

    def __len__(self) -> int:
        return int(self._ends[-1])

    @property
    def file_sizes(self) -> NDArray[np.int64]:
        return np.concatenate([one.file_sizes for one in self._opened])

    def image(self, sample: int) -> Bytes:
        one, own = self._at(sample)
        return one.image(own)

    def label(self, sample: int) -> Bytes:
        one, own = self._at(sample)
        return one.label(own)

    def damaged(self, sample: int, image: Bytes | None, label: Bytes | None = None) -> str | None:
        one, own = self._at(sample)
        return one.damaged(own, image, label)

    def rows(self, sample: int, first: int, last: int, into: Bytes | None = None) -> tuple[Bytes, int] | None:
        one, own = self._at(sample)
        return one.rows(own, first, last, into)

    def will_need(self, samples: Iterable[int]) -> None:
        for sample in samples:
            one, own = self._at(sample)
            one.will_need([own])

    @contextlib.contextmanager
    def following(self, order: Order, epoch: int, place: int, behind: int = 0) -> Iterator[Callable[[int, int], None]]:
        def of_folder(number: int, epoch: int) -> NDArray[np.int64]:
            own = order(epoch) - (self._ends[number] - len(self._opened[number]))
            return np.where((own >= 0) & (own < len(self._opened[number])), own, -1)

        with contextlib.ExitStack() as held:
            told = [
                held.enter_context(one.following(functools.partial(of_folder, number), epoch, place, behind))
                for number, one in enumerate(self._opened)
                if one.staging
            ]

            def reached(epoch: int, place: int) -> None:
                for tell in told:
                    tell(epoch, place)

            yield reached

    @property
    def staging(self) -> list[Staging]:
        return [part for one in self._opened for part in one.staging]

    def record(self, shard: str) -> ShardRecord:
        raise AssertionError("shards of several folders may have one name")

    def shard_of(self, sample: int) -> Path:
        one, own = self._at(sample)
        return one.shard_of(own)

    def place_of(self, sample: int) -> str:
        one, own = self._at(sample)
        return one.place_of(own)

    def areas(self, sample: int) -> Areas:
        one, own = self._at(sample)
        return one.areas(own)

    def class_pixels_per_sample(self) -> NDArray[np.uint32]:
        return np.concatenate([one.class_pixels_per_sample() for one in self._opened])

    def samples_with(self, class_id: int) -> NDArray[np.int64]:
        begins = self._ends - [len(one) for one in self._opened]
        found = [begin + one.samples_with(class_id) for begin, one in zip(begins, self._opened, strict=True)]
        return np.concatenate(found)

    def notes(self) -> list[str]:
        """What a user should know: each folder's share of an epoch, and whose mean and std are used where they
        differ."""
        visits = [part.visits for part in self.parts]
        lines = [
            f"data.path: {part.shown}, {count(part.samples, 'image')} x {part.weight:g}: "
            f"{part.visits / sum(visits):.1%} of an epoch's {count(sum(visits), 'crop')}"
            for part in self.parts
        ]
        facts = [(one.manifest.mean, one.manifest.std) for one in self._opened]
        if any(one != facts[0] for one in facts):
            mean, std = (" ".join(f"{value:.3f}" for value in values) for values in facts[0])
            lines.append(f"mean {mean} and std {std} are those of {self.parts[0].shown}, the first; the others differ")
        return lines

    def _at(self, sample: int) -> tuple[ShardSet, int]:
        """(the folder's split, the sample's number in it)."""
        number = int(np.searchsorted(self._ends, sample, side="right"))
        one = self._opened[number]
        return one, int(sample) - int(self._ends[number]) + len(one)

    def _key(self, sample: int) -> str:
        number = int(np.searchsorted(self._ends, sample, side="right"))
        one, own = self._at(sample)
        return f"{self._prefixes[number]}/{one.keys[own]}"


def _prefixes(places: Sequence[Folder]) -> list[str]:
    """The folders' last names, or, where two have the same, all of their paths."""
    paths = [one.path.rstrip("/") for one in places]
    names = [path.rpartition("/")[2] for path in paths]
    return names if len(set(names)) == len(names) else paths


def _manifest(opened: Sequence[ShardSet], parts: Sequence[Part]) -> Manifest:
    """The first folder's, with the one split: shards of all, pixels per class as often as an epoch visits them."""
    first, splits = opened[0], [one.manifest.split(one.split) for one in opened]
    visits = [part.visits / part.samples for part in parts]

    def weighted(counts: list[list[int]]) -> list[int]:
        """Per class; empty where a folder did not count."""
        if not all(counts):
            return []
        return [round(sum(w * n for w, n in zip(visits, column, strict=True))) for column in zip(*counts, strict=True)]

    split = Split(
        samples=sum(split.samples for split in splits),
        labeled=first.labeled,
        shards=[shard for split in splits for shard in split.shards],
        class_pixels=weighted([split.class_pixels for split in splits]),
        ignored_pixels=weighted([[split.ignored_pixels] for split in splits])[0],
        image_size=splits[0].image_size,
        class_images=weighted([split.class_images for split in splits]),
        class_image_pixels=weighted([split.class_image_pixels for split in splits]),
    )
    names = " + ".join(one.manifest.name for one in opened)
    return dataclasses.replace(first.manifest, name=names, splits={first.split: split})


def _refuse_other(first: ShardSet, other: ShardSet, names: tuple[str, str]) -> None:
    """UserError naming the first class, or what else, in which the two folders differ."""
    ours, theirs = first.manifest.classes, other.manifest.classes
    remedy = "ingest it with the first one's classes (a spec can map its classes onto them by name), or leave it out"
    for number, (mine, its) in enumerate(itertools.zip_longest(ours, theirs)):
        if mine != its:
            mine, its = ("missing" if name is None else brief(name) for name in (mine, its))
            raise UserError(f"data.path: class {number} is {mine} in {names[0]} and {its} in {names[1]}: {remedy}")
    if first.manifest.channels != other.manifest.channels:
        raise UserError(
            f"data.path: images of {names[0]} have {first.manifest.channels} channels, those of {names[1]} "
            f"{other.manifest.channels}: ingest the same bands, or leave one out"
        )
    if first.labeled != other.labeled:
        bare = names[1] if first.labeled else names[0]
        raise UserError(f"data.path: split {first.split!r} of {bare} has no labels, the other has: leave one out")
