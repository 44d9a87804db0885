"""The training stream as one sequence, however it is cut into ranks, batches, threads and runs."""

from __future__ import annotations

import contextlib
import itertools
import json
from pathlib import Path

import numpy as np
import pytest

from ingest.errors import UserError
from ingest.shards.reader import ShardSet
from pipeline import geometry, plan
from pipeline.augment import Augment
from pipeline.loader import TrainLoader
from pipeline.sheet import outside
from tests.loaders import eval_loader, train_loader
from tests.shard_folder import smooth_scene, write_shards

AUGMENT = Augment(crop=(33, 47), base_size=70)
COUNT, SEED, GLOBAL = 53, 11, 24  # two steps an epoch, five samples left over

Sample = tuple[str, bytes, bytes]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    sizes = [(60, 80), (81, 55), (64, 64), (33, 97), (150, 171)]
    train = [smooth_scene(*sizes[i % 5], seed=i) for i in range(COUNT)]
    val = [smooth_scene(*sizes[i % 3], seed=100 + i) for i in range(13)]
    return write_shards(tmp_path_factory.mktemp("exact"), {"train": train, "val": val}, ext="jpg", per_shard=10)


def ranks_of(folder: Path, world: int, global_batch: int = GLOBAL, **options) -> list[TrainLoader]:
    batch = global_batch // world
    return [
        train_loader(ShardSet(folder, "train"), AUGMENT, batch, seed=SEED, rank=rank, ranks=world, **options)
        for rank in range(world)
    ]


def together(ranks: list[TrainLoader], steps: int) -> list[Sample]:
    """What `steps` global batches hold, in the stream's order."""
    with contextlib.ExitStack() as stack:
        streams = [stack.enter_context(contextlib.closing(iter(loader))) for loader in ranks]
        made = [[next(stream) for stream in streams] for _ in range(steps)]
    return [
        (key, image.numpy().tobytes(), label.numpy().tobytes())
        for step in made
        for batch in step
        for key, image, label in zip(batch.keys, batch.images, batch.labels, strict=True)
    ]


@pytest.fixture(scope="module")
def stream(folder: Path) -> list[Sample]:
    """Two and a half epochs from one rank and one thread."""
    return together(ranks_of(folder, 1, threads=1, prefetch=1), 5)


@pytest.mark.parametrize("world", [1, 2, 3, 8])
def test_any_number_of_ranks_put_together_is_the_same_stream(folder: Path, stream: list[Sample], world: int) -> None:
    assert together(ranks_of(folder, world), 5) == stream


@pytest.mark.parametrize(("threads", "prefetch"), [(1, 6), (2, 1), (3, 2), (8, 4)])
def test_threads_and_prefetch_change_nothing(folder: Path, stream: list[Sample], threads: int, prefetch: int) -> None:
    assert together(ranks_of(folder, 1, threads=threads, prefetch=prefetch), 5) == stream


@pytest.mark.parametrize("stop", range(6))
@pytest.mark.parametrize("worlds", [(1, 3), (8, 2), (3, 1)])
def test_stopped_at_any_step_and_resumed_with_other_ranks(
    folder: Path, stream: list[Sample], stop: int, worlds: tuple[int, int]
) -> None:
    before = ranks_of(folder, worlds[0])
    seen = together(before, stop)
    states = [json.dumps(loader.state_dict()) for loader in before]
    assert len(set(states)) == 1, "every rank says the same, so that rank 0 can save for all"
    after = ranks_of(folder, worlds[1])
    for loader in after:
        loader.load_state_dict(json.loads(states[0]))
    assert seen + together(after, 5 - stop) == stream


@pytest.mark.parametrize("worlds", [(1, 3), (8, 2)])
def test_windows_of_shards_are_as_exact(folder: Path, worlds: tuple[int, int]) -> None:
    whole = together(ranks_of(folder, 1, shuffle_window=2), 5)
    before, after = (ranks_of(folder, world, shuffle_window=2) for world in worlds)
    seen = together(before, 3)
    for loader in after:
        loader.load_state_dict(before[0].state_dict())
    assert seen + together(after, 2) == whole
    keys = ShardSet(folder, "train").keys
    order = plan.windowed_order(SEED, 0, [10] * 5 + [3], 2)
    assert [key for key, *_ in whole[:48]] == [keys[sample] for sample in order[:48]]
    with pytest.raises(UserError, match="differs from this run's"):
        ranks_of(folder, 1)[0].load_state_dict(before[0].state_dict())


def test_iterating_again_goes_on_though_batches_were_made_ahead(folder: Path, stream: list[Sample]) -> None:
    (loader,) = ranks_of(folder, 1, prefetch=3)
    assert [sample for _ in range(5) for sample in together([loader], 1)] == stream


def test_another_global_batch_goes_on_at_the_same_position(folder: Path) -> None:
    """24 samples of the epoch are seen; with batches of 7 the next four hold the next 28, the tail of one is left."""
    (first,) = ranks_of(folder, 1)
    seen = [key for key, *_ in together([first], 1)]
    (second,) = ranks_of(folder, 1, global_batch=7)
    second.load_state_dict(first.state_dict())
    seen += [key for key, *_ in together([second], 5)]
    keys = second.shards.keys
    orders = [[keys[sample] for sample in plan.order(SEED, epoch, COUNT)] for epoch in (0, 1)]
    assert seen[:52] == orders[0][:52] and seen[52:] == orders[1][:7]


def test_the_loader_delivers_what_the_plan_says(folder: Path, stream: list[Sample]) -> None:
    keys = ShardSet(folder, "train").keys
    expected = [keys[sample] for epoch in range(3) for sample in plan.order(SEED, epoch, COUNT)[:48]][: 5 * GLOBAL]
    assert [key for key, *_ in stream] == expected


# --- evaluation ---


@pytest.mark.parametrize("batch", [1, 3, 5, 40])
def test_evaluation_batches_are_the_same_at_any_world_size(folder: Path, batch: int) -> None:
    shards = ShardSet(folder, "val")
    whole = [made.keys for made in eval_loader(shards, batch)]
    assert sorted(key for keys in whole for key in keys) == sorted(shards.keys)
    for world in (2, 3, 8, 20):
        loaders = [eval_loader(shards, batch, rank=rank, ranks=world) for rank in range(world)]
        dealt = [[made.keys for made in loader] for loader in loaders]
        assert [len(loader) for loader in loaders] == [len(keys) for keys in dealt]
        rounds = itertools.zip_longest(*dealt)
        assert [keys for one in rounds for keys in one if keys is not None] == whole


def test_one_image_for_eight_ranks(tmp_path: Path) -> None:
    shards = ShardSet(write_shards(tmp_path, {"val": [smooth_scene(20, 30, 0)]}), "val")
    seen = [len(list(eval_loader(shards, 4, rank=rank, ranks=8))) for rank in range(8)]
    assert seen == [1, 0, 0, 0, 0, 0, 0, 0]


# --- what a crop may hold, through the whole loader ---


@pytest.mark.parametrize(("ext", "channels"), [("png", 3), ("jpg", 3), ("npy", 1), ("npy", 4)])
def test_padding_and_class_ids_at_odd_sizes(tmp_path: Path, ext: str, channels: int) -> None:
    """Images of a pixel, of one row, larger and smaller than the crop; sparse ids that interpolation would mix."""
    sizes = [(1, 1), (1, 50), (37, 1), (33, 97), (8, 9), (200, 151), (2, 3)]
    random = np.random.default_rng(0)
    ids = [0, 3, 4]
    scenes = [
        (
            np.full((*size, channels), 250, np.uint8),
            np.array(ids, np.uint8)[random.integers(0, len(ids), size)],
        )
        for size in sizes
    ]
    shards = ShardSet(write_shards(tmp_path, {"train": scenes}, ext=ext), "train")
    augment = Augment(crop=(45, 61), base_size=64, scale=(0.2, 2.0))
    mean = np.array([round(255 * value) for value in shards.manifest.mean])
    padded = 0
    loader = train_loader(shards, augment, len(sizes))
    for epoch in range(4):
        ((batch, images, labels),) = [
            (batch, batch.images.permute(0, 2, 3, 1).numpy(), batch.labels.numpy())
            for batch in itertools.islice(loader, 1)
        ]
        samples = np.array([shards.keys.index(key) for key in batch.keys])
        matrices = geometry.matrices(plan.draw(0, epoch, samples), shards.sizes_hw[samples], augment)
        for i, sample in enumerate(samples):
            depth = depth_inside(matrices[i], shards.sizes_hw[sample], augment.crop)
            np.testing.assert_array_equal(depth < 0, outside(matrices[i], shards.sizes_hw[sample], augment.crop))
            # At the very edge OpenCV may round either way (it counts in 1/32 of a pixel).
            surely_out, surely_in = depth < -0.1, depth > 0.1
            padded += int(surely_out.sum())
            assert (labels[i][surely_out] == 255).all()
            assert set(np.unique(labels[i][surely_in])) <= set(ids)
            assert set(np.unique(labels[i])) <= {*ids, 255}
            # The image fades over one pixel of the (shrunk) source, and is blurred over two of the crop.
            ratio = np.linalg.norm(matrices[i][:, :2], 2)
            fade = 2 + 3 * ratio
            assert (images[i][depth < -fade] == mean).all()
            assert (images[i][depth > fade] >= 249).all()
    assert padded > 1000


def depth_inside(matrix: np.ndarray, size_hw: np.ndarray, crop: tuple[int, int]) -> np.ndarray:
    """How far inside the source's border each pixel of a crop is sampled, float64 [h, w], source pixels."""
    y, x = np.mgrid[: crop[0], : crop[1]]
    source_x, source_y = np.einsum("ij,jhw->ihw", matrix, np.stack([x, y, np.ones_like(x)]))
    height, width = size_hw
    return np.min([source_x + 0.5, source_y + 0.5, width - 0.5 - source_x, height - 0.5 - source_y], axis=0)
