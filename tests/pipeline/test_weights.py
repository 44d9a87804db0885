"""Several shard folders with weights: how often each sample comes, exact as any stream, the plain stream unchanged."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from ingest.errors import UserError
from ingest.shards import folders, joined
from ingest.shards.folders import Folder
from ingest.shards.reader import ShardSet
from pipeline import balance, plan
from pipeline.__main__ import main
from pipeline.augment import Augment
from pipeline.config import Stream, parse
from pipeline.loader import TrainLoader
from tests.loaders import train_loader
from tests.shard_folder import smooth_scene, write_shards

AUGMENT = Augment(crop=(24, 32), base_size=40)


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """13 JPEGs in four shards, and 6 PNGs in two: `a` and `b`."""
    where = tmp_path_factory.mktemp("weights")
    one = [smooth_scene(40 + i % 3, 50, seed=i) for i in range(13)]
    other = [smooth_scene(44, 37 + i, seed=50 + i) for i in range(6)]
    return (
        write_shards(where / "a", {"train": one}, ext="jpg", schema=2),
        write_shards(where / "b", {"train": other}, schema=2, per_shard=3),
    )


def view(two: tuple[Path, Path], *weights: float) -> ShardSet:
    return joined.open_split([Folder(str(path), weight) for path, weight in zip(two, weights, strict=True)], "train")


def visits_of(shards: ShardSet, stream: Stream, epochs: range) -> list[np.ndarray]:
    """Of each epoch, how often it visits each sample."""
    chosen = balance.targets(shards, stream.balance)
    found = [balance.epoch_of(shards, stream, epoch, chosen).samples for epoch in epochs]
    return [np.bincount(samples, minlength=len(shards)) for samples in found]


@pytest.mark.parametrize("window", [0, 1, 2])
@pytest.mark.parametrize("weights", [(1, 2), (0.5, 1), (1, 2.5), (0.01, 3)])
def test_a_sample_is_visited_as_often_as_its_folder_s_weight(
    two: tuple[Path, Path], weights: tuple[float, float], window: int
) -> None:
    shards = view(two, *weights)
    epochs = 8
    counts = visits_of(shards, Stream(3, 2, window), range(epochs))
    for folder, part in zip((slice(13), slice(13, 19)), shards.parts, strict=True):
        assert all(count[folder].sum() == part.visits for count in counts)
        total = np.sum(counts, axis=0)[folder]
        assert total.max() - total.min() <= 1 and total.sum() == epochs * part.visits
        assert abs(part.visits - part.weight * part.samples) <= 0.5 or part.visits == 1


def test_without_weights_it_is_the_stream_of_one_folder_with_all_the_shards(two: tuple[Path, Path]) -> None:
    shards = view(two, 1, 1)
    for window in (0, 2):
        found = balance.epoch_of(shards, Stream(3, 2, window), 4, [])
        assert np.array_equal(found.samples, plan.windowed_order(3, 4, shards.counts, window)) and found.owners is None
    plain = ShardSet(two[0], "train")
    alone = joined.open_split([Folder(str(two[0]))], "train")
    assert type(alone) is ShardSet
    assert TrainLoader(alone, Stream(3, 2)).fingerprint() == TrainLoader(plain, Stream(3, 2)).fingerprint()


def test_visits_to_a_sample_in_an_epoch_are_different_crops(two: tuple[Path, Path]) -> None:
    shards = view(two, 1, 3)
    loader = train_loader(shards, AUGMENT, 1, seed=3)
    found = list(itertools.islice(loader, loader.epoch_samples))
    crops = {(batch.keys[0], batch.images.numpy().tobytes()) for batch in found}
    times = Counter(batch.keys[0] for batch in found)
    assert len(crops) == len(found) == 13 + 3 * 6
    assert {times[key] for key in times if key.startswith("b/")} == {3}


@pytest.mark.parametrize("settings", [{}, {"shuffle_window": 2}, {"balance": {"class1": 0.2}}])
@pytest.mark.parametrize("cat", [1.0, 0.6])
def test_ranks_and_interruptions_change_nothing(two: tuple[Path, Path], settings: dict, cat: float) -> None:
    shards = view(two, 0.7, 2)
    augment = Augment(crop=(24, 32), base_size=60, cat_max_ratio=cat)

    def content(loader: TrainLoader, count: int) -> list[list[tuple[str, bytes]]]:
        return [
            [(key, image.numpy().tobytes()) for key, image in zip(batch.keys, batch.images, strict=True)]
            for batch in itertools.islice(loader, count)
        ]

    def loader(batch: int, **place: int) -> TrainLoader:
        return train_loader(shards, augment, batch, seed=5, **settings, **place)

    whole = content(loader(4), 13)  # two epochs and a bit
    ranks = [content(loader(2, rank=rank, ranks=2), 13) for rank in range(2)]
    assert [first + second for first, second in zip(*ranks, strict=True)] == whole
    begun, resumed = loader(4), loader(4)
    content(begun, 6)
    resumed.load_state_dict(json.loads(json.dumps(begun.state_dict())))
    assert content(resumed, 7) == whole[6:]


def test_another_weight_is_another_stream(two: tuple[Path, Path]) -> None:
    state = TrainLoader(view(two, 1, 2), Stream(3, 2)).state_dict()
    TrainLoader(view(two, 1, 2), Stream(3, 2)).load_state_dict(state)
    for weights in ((1, 1), (1, 3), (2, 2)):
        with pytest.raises(UserError, match="data stream differs"):
            TrainLoader(view(two, *weights), Stream(3, 2)).load_state_dict(state)


def test_balance_goes_with_weights(two: tuple[Path, Path]) -> None:
    shards = view(two, 1, 2)
    stream = Stream(3, 2, balance={"class1": 0.4})
    epoch = balance.epoch_of(shards, stream, 0, balance.targets(shards, stream.balance))
    assert epoch.aims is not None and len(epoch.samples) == 25 and (epoch.aims == 1).sum() == 10
    # 15 of 25 places are free: each of the 25 visits comes in two epochs
    free = np.zeros(19, int)
    for number in (0, 1):
        one = balance.epoch_of(shards, stream, number, balance.targets(shards, stream.balance))
        assert one.aims is not None and one.owners is not None
        free += np.bincount(one.samples[one.aims == -1], minlength=19)
    assert (free >= [1] * 13 + [2] * 6).all() and free.sum() == 30


def test_the_view_gives_each_folder_s_own_files(two: tuple[Path, Path]) -> None:
    shards = view(two, 1, 2)
    own = [ShardSet(folder, "train") for folder in two]
    assert list(shards.keys) == [f"a/{key}" for key in own[0].keys] + [f"b/{key}" for key in own[1].keys]
    assert shards.image_formats == {"jpg", "png"} and len(shards) == 19 and sum(shards.counts) == 19
    assert np.array_equal(shards.file_sizes, np.concatenate([one.file_sizes for one in own]))
    for sample, (one, number) in enumerate([(own[0], i) for i in range(13)] + [(own[1], i) for i in range(6)]):
        assert np.array_equal(shards.image(sample), one.image(number))
        assert np.array_equal(shards.label(sample), one.label(number))
        assert shards.damaged(sample, shards.image(sample), shards.label(sample)) is None
        assert shards.shard_of(sample) == one.shard_of(number)
        assert np.array_equal(shards.areas(sample).pixels, one.areas(number).pixels)
        assert sample in shards.samples_with(int(shards.areas(sample).ids[0]))
    pixels = [one.manifest.split("train").class_pixels for one in own]
    weighted = [first + 2 * second for first, second in zip(*pixels, strict=True)]
    assert shards.manifest.split("train").class_pixels == weighted
    assert np.array_equal(shards.class_pixels_per_sample()[:13], own[0].class_pixels_per_sample())


def test_folders_that_do_not_go_together_are_refused(two: tuple[Path, Path], tmp_path: Path) -> None:
    scenes = [smooth_scene(40, 40, seed=i) for i in range(2)]
    more = write_shards(tmp_path / "more", {"train": scenes}, num_classes=6, schema=2)
    with pytest.raises(UserError, match=r"class 5 is missing in .*/a and 'class5' in .*/more: ingest it"):
        view((two[0], more), 1, 1)
    bare = write_shards(tmp_path / "bare", {"train": [(image, None) for image, _ in scenes]})
    with pytest.raises(UserError, match=r"split 'train' of .*/bare has no labels"):
        view((two[0], bare), 1, 1)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([], r"data\.path = \[\]: expected a shard folder, or a list such as"),
        ([5], r"data\.path\.0 = 5: expected a folder"),
        ([{"path": "a"}, {"path": "b", "wieght": 2}], r"unknown key 'data\.path\.1\.wieght'.*did you mean 'weight'"),
        ([{"weight": 2}], r"data\.path\.0\.path = null: expected a shard folder"),
        ([{"path": "a", "weight": 0}], r"data\.path\.0\.weight = 0: expected a number above 0, at most 1000"),
        ([{"path": "a", "weight": "2"}], r"data\.path\.0\.weight = '2': expected a number"),
        ([{"path": "a", "weight": float("nan")}], r"data\.path\.0\.weight = nan: expected a number"),
        (["a", {"path": "a", "weight": 2}], r"data\.path names 'a' twice: name it once, with a weight"),
        ({"path": "a"}, r"data\.path"),
    ],
)
def test_mistakes_in_the_list_are_one_line(value: object, message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        parse({"data": {"path": value}})
    assert "\n" not in str(error.value)


def test_check_and_show_take_the_list(two: tuple[Path, Path], tmp_path: Path) -> None:
    places = f"[{{path: {two[0]}}}, {{path: {two[1]}, weight: 2}}]"
    settings = ["augment.crop=[24,32]", "augment.base_size=40"]

    def check(place: str, *more: str) -> dict:
        result = CliRunner().invoke(main, ["check", place, *settings, *more, "--batches", "3", "--json"])
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)

    found = check(places, "data.batch_size=4")
    assert found["dataset"]["weights"] == [1, 2] and found["dataset"]["samples"] == 19
    ranks = check(places, "data.batch_size=2", "--world", "2")
    assert ranks["all"] == found["all"]
    assert check(f"[{two[0]}]", "data.batch_size=4") == check(str(two[0]), "data.batch_size=4")
    out = tmp_path / "crops.png"
    shown = CliRunner().invoke(main, ["show", places, *settings, "-n", "25", "--out", str(out)])
    assert shown.exit_code == 0 and out.stat().st_size, shown.output
    assert folders.shown(folders.parsed(places, "")) == f"{two[0]} + {two[1]} x2"
