"""Balanced epochs and crops that one class does not fill: how often, where, and as exact a stream as any."""

from __future__ import annotations

import contextlib
import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ingest.errors import UserError
from ingest.shards.reader import ShardSet
from pipeline import balance, config, geometry, plan
from pipeline.augment import Augment
from pipeline.config import Stream
from pipeline.loader import TrainLoader
from tests.loaders import train_loader
from tests.shard_folder import smooth_scene, write_shards

AUGMENT = Augment(crop=(32, 40), base_size=160)
COUNT, RARE = 40, 3
BALANCE = {"class3": 0.3, "class1": 0.1}


def scene(number: int) -> tuple[np.ndarray, np.ndarray]:
    """Class 0 below class 2; every fifth image has a small patch of class 3, in a corner or at an edge."""
    image, _ = smooth_scene(90, 120, number)
    label = np.zeros((90, 120), np.uint8)
    label[30 + number % 40 :] = 2
    label[:, :9] = 1
    if number % 5 == 0:
        top, left = [(0, 100), (70, 0), (40, 60), (80, 112)][number // 5 % 4]
        label[top : top + 10, left : left + 8] = RARE
    label[:4] = 255
    return image, label


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    scenes = [scene(number) for number in range(COUNT)]
    return write_shards(tmp_path_factory.mktemp("balance"), {"train": scenes}, schema=2, per_shard=16)


# --- the order ---


@pytest.mark.parametrize("shares", [[0.3], [0.1, 0.25], [0.5, 0.4], [0.0]])
def test_places_are_as_many_as_asked_and_every_sample_comes(shares: list[float]) -> None:
    count = 101
    candidates = [np.arange(7), np.array([3, 50, 99])]
    pools = [(int(share * count), candidates[i]) for i, share in enumerate(shares)]
    free = count - sum(places for places, _ in pools)
    cycle = -(-count // free)
    for seed in range(3):
        for first in (0, 5 * cycle):
            seen: set[int] = set()
            for epoch in range(first, first + cycle):
                samples, pool = plan.balanced_order(seed, epoch, count, pools)
                assert len(samples) == count and (pool == -1).sum() == free
                for number, (places, members) in enumerate(pools):
                    mine = samples[pool == number]
                    assert len(mine) == places and set(mine) <= set(members)
                    # as evenly as it comes out
                    times = np.bincount(np.searchsorted(members, mine), minlength=len(members))
                    assert times.max() - times.min() <= 1 or not places
                regular = samples[pool == -1]
                assert len(set(regular)) == free  # none twice
                seen |= set(regular)
            assert seen == set(range(count))


def test_balanced_epochs_differ_and_are_mixed() -> None:
    pools = [(30, np.arange(10))]
    orders = [plan.balanced_order(seed, epoch, 100, pools) for seed in range(2) for epoch in range(3)]
    assert len({tuple(samples) for samples, _ in orders}) == 6
    places = np.concatenate([np.flatnonzero(pool == 0) for _, pool in orders])
    assert np.histogram(places, bins=4, range=(0, 100))[0].min() > 25  # of 45 each
    again = plan.balanced_order(1, 2, 100, pools)
    assert all((one == other).all() for one, other in zip(again, orders[5], strict=True))


# --- the crops ---


def test_aimed_crops_show_their_class_and_lie_anywhere_around_it(folder: Path) -> None:
    shards = ShardSet(folder, "train")
    loader = train_loader(shards, AUGMENT, 8, seed=4, balance=BALANCE)
    shown = {True: [], False: []}
    places = []
    for epoch in range(4):
        order = loader.order(epoch)
        assert order.aims is not None and (order.aims == RARE).sum() == 12 and (order.aims == 1).sum() == 4
        loader.load_state_dict({"epoch": epoch, "position": 0, "fingerprint": loader.fingerprint()})
        for step, batch in enumerate(itertools.islice(loader, 5)):
            for i, label in enumerate(batch.labels):
                place = 8 * step + i
                assert batch.keys[i] == shards.keys[order.samples[place]]
                if order.samples[place] % 5 == 0:
                    hit = bool((label == RARE).any())
                    shown[order.aims[place] == RARE].append(hit)
                    if hit:
                        places.append(np.argwhere(label.numpy() == RARE).mean(axis=0) / AUGMENT.crop)
    # cells are larger than the patch, so that a crop may just miss it
    assert np.mean(shown[True]) > 0.85 and len(shown[True]) == 48
    assert np.mean(shown[True]) > np.mean(shown[False]) + 0.3
    assert np.ptp(places, axis=0).min() > 0.6  # not always in the middle


def test_a_point_lies_where_the_class_is(folder: Path) -> None:
    shards = ShardSet(folder, "train")
    numbers = np.random.default_rng(0).random((200, 3))
    for sample in (0, 5, 10, 15):
        _, label = scene(sample)
        rows, columns = np.nonzero(label == RARE)
        for point in numbers:
            x, y, one = balance._point(shards.areas(sample), RARE, shards.sizes_hw[sample], point)
            # within a cell (11 x 15 pixels) of a pixel of the class
            assert one == 1 and np.abs(rows - y).min() <= 12 and np.abs(columns - x).min() <= 15
            assert -0.5 <= x <= 119.5 and -0.5 <= y <= 89.5


@pytest.mark.parametrize("keys", [{}, {"rotate": 0}, {"quarter_turns": 1.0}, {"flip": 1.0, "vertical_flip": 1.0}])
def test_a_crop_holds_its_point(keys: dict) -> None:
    augment = replace(Augment(crop=(32, 40), base_size=160, scale=(1, 2)), **keys)
    draws = plan.draw(0, 0, np.arange(300))
    numbers = np.stack([getattr(draws, name) for name in vars(draws)], axis=1)
    size, source = np.array([90, 120]), np.array([100.0, 20.0, 1.0])
    offsets = []
    for row in numbers:
        one = plan.Draws.of(row[None])
        top, left = balance._around(source, size, augment, one)
        one.top[:], one.left[:] = top, left
        matrix = geometry.matrices(one, size[None], augment)[0]
        x, y = np.linalg.solve(matrix[:, :2], source[:2] - matrix[:, 2])
        assert -0.5 <= x <= 39.5 and -0.5 <= y <= 31.5
        offsets.append((x, y))
    assert np.ptp(offsets, axis=0).min() > 25


def test_one_class_seldom_fills_a_crop(folder: Path) -> None:
    shards = ShardSet(folder, "train")

    def largest(augment: Augment) -> np.ndarray:
        found = []
        for batch in itertools.islice(train_loader(shards, augment, 8, seed=1), 20):
            for label in batch.labels.numpy():
                counts = np.bincount(label.ravel(), minlength=256)[:255]
                found.append(counts.max() / max(counts.sum(), 1))
        return np.array(found)

    before, after = largest(AUGMENT), largest(replace(AUGMENT, cat_max_ratio=0.75))
    # A quarter of a class may be a sliver that the grid does not place exactly.
    assert (before > 0.85).mean() > 0.4 and (after > 0.85).mean() < 0.15
    # Crops that were good already stay where they were.
    assert (np.isclose(before, after) | (before > 0.6)).all()


def test_the_grid_tells_the_share_of_a_crop(folder: Path) -> None:
    shards, errors = ShardSet(folder, "train"), []
    (batches,) = [list(itertools.islice(train_loader(shards, AUGMENT, 8, seed=2), 5))]
    for batch in batches:
        for key, label in zip(batch.keys, batch.labels.numpy(), strict=True):
            sample = shards.keys.index(key)
            draws = plan.draw(2, 0, np.array([sample]))
            share = balance._largest_share(shards.areas(sample), draws, shards.sizes_hw[sample], AUGMENT)[0]
            counts = np.bincount(label.ravel(), minlength=256)[:255]
            errors.append(abs(share - counts.max() / counts.sum()))
    assert np.mean(errors) < 0.06


# --- as exact as any stream ---

STREAMS = [{"balance": BALANCE}, {"augment": replace(AUGMENT, cat_max_ratio=0.6)}]


@pytest.mark.parametrize("options", STREAMS)
@pytest.mark.parametrize("ranks", [2, 4])
def test_ranks_and_interruptions_change_nothing(folder: Path, options: dict, ranks: int) -> None:
    augment, rest = options.get("augment", AUGMENT), {k: v for k, v in options.items() if k != "augment"}

    def samples(loaders: list[TrainLoader], steps: int) -> list[tuple[str, bytes]]:
        with contextlib.ExitStack() as stack:
            streams = [stack.enter_context(contextlib.closing(iter(loader))) for loader in loaders]
            made = [[next(stream) for stream in streams] for _ in range(steps)]
        return [
            (key, image.numpy().tobytes() + label.numpy().tobytes())
            for step in made
            for batch in step
            for key, image, label in zip(batch.keys, batch.images, batch.labels, strict=True)
        ]

    def loaders(count: int) -> list[TrainLoader]:
        shards = ShardSet(folder, "train")
        return [train_loader(shards, augment, 12 // count, seed=3, rank=r, ranks=count, **rest) for r in range(count)]

    whole = samples(loaders(1), 5)  # 3 steps an epoch
    before, after = loaders(1), loaders(ranks)
    first = samples(before, 2)
    for loader in after:
        loader.load_state_dict(before[0].state_dict())
    assert first + samples(after, 3) == whole


# --- mistakes ---


def test_what_cannot_be_asked_is_refused(folder: Path, tmp_path: Path) -> None:
    shards = ShardSet(folder, "train")
    for shares, message in (
        ({"class33": 0.1}, r"data.balance names 'class33'; did you mean 'class3'"),
        ({"class4": 0.1}, r"'class4', which no sample of split 'train' shows"),
    ):
        with pytest.raises(UserError, match=message):
            TrainLoader(shards, Stream(balance=shares))
    for data, message in (
        ({"balance": {"class3": -0.1}}, r"data.balance.class3 = -0.1: expected a number in \(0, 0.9\]"),
        ({"balance": {"a": 0.5, "b": 0.5}}, r"add up to 1; expected at most 0.9"),
        ({"balance": {"a": 0.5}, "shuffle_window": 4}, r"data.shuffle_window = 4"),
        ({"balance": [1]}, r"data.balance = \[1\]: expected names with values"),
        ({"balance": {"class3": "x"}}, r"data.balance.class3 = .x.: expected a valid number"),
    ):
        with pytest.raises(UserError, match=message):
            config.parse({"data": data})
    with pytest.raises(UserError, match=r"augment.cat_max_ratio = 0"):
        Augment(cat_max_ratio=0)
    old = ShardSet(write_shards(tmp_path, {"train": [scene(number) for number in range(8)]}, schema=1), "train")
    for stream in (Stream(balance={"class3": 0.1}), Stream(augment=replace(AUGMENT, cat_max_ratio=0.75))):
        with pytest.raises(UserError, match="ingest reindex"):
            TrainLoader(old, stream)


def test_balance_is_part_of_what_names_a_stream(folder: Path) -> None:
    shards = ShardSet(folder, "train")
    streams = [Stream(), Stream(balance=BALANCE), Stream(balance={**BALANCE, "class1": 0.2})]
    assert len({TrainLoader(shards, stream).fingerprint() for stream in streams}) == 3
    assert config.parse({"data": {"balance": {"class3": 0.2}}}).balance == {"class3": 0.2}
