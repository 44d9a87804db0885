"""The GPU device against the CPU device: the same stream, nearly the same pixels."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from ingest.shards.reader import ShardSet
from pipeline import decode
from pipeline.augment import Augment
from pipeline.batch import Batch
from pipeline.gpu.graph import Executor, Inputs, decode_graph
from tests.loaders import eval_loader, train_loader
from tests.shard_folder import smooth_scene, write_shards

pytestmark = pytest.mark.gpu


@pytest.fixture(scope="module", params=["png", "jpg"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    sizes = [(60, 80), (81, 55), (64, 64)]
    scenes = [smooth_scene(*sizes[i % 3], seed=i) for i in range(9)]
    return write_shards(tmp_path_factory.mktemp("gpu"), {"train": scenes, "val": scenes[:5]}, ext=request.param)


COLORS = {"brightness": 0.125, "contrast": 0.5, "saturation": 0.5, "hue": 36.0, "gray": 0.2}
TURNS = {"vertical_flip": 0.5, "quarter_turns": 0.5, "erase": 0.5, "resize": "shorter"}


@pytest.mark.parametrize("keys", [{"blur": 0.0}, {"blur": 1.0}, COLORS, {**COLORS, **TURNS}])
def test_training_stream_agrees_with_the_cpu(folder: Path, keys: dict) -> None:
    augment = replace(Augment(crop=(48, 64), base_size=80), **keys)
    shards = ShardSet(folder, "train")
    streams = [itertools.islice(train_loader(shards, augment, 3, device=device), 6) for device in ("cpu", "cuda")]
    for ours, theirs in zip(*streams, strict=True):
        assert theirs.keys == ours.keys
        assert theirs.images.is_cuda and theirs.images.is_contiguous(memory_format=torch.channels_last)
        assert theirs.images.shape == ours.images.shape and theirs.labels.shape == ours.labels.shape
        difference = (theirs.images.cpu().int() - ours.images.int()).abs().float()
        # OpenCV rounds places to 1/32 of a pixel, and GPU JPEG decoding differs by a few levels; contrast and
        # saturation may double either.
        times = 2 if "contrast" in keys else 1
        assert difference.quantile(0.98) <= 5 * times and difference.mean() < 1.5 * times
        assert (theirs.labels.cpu() != ours.labels).float().mean() < 0.01


def test_evaluation_agrees_with_the_cpu(folder: Path) -> None:
    shards = ShardSet(folder, "val")
    for ours, theirs in zip(eval_loader(shards, 2), eval_loader(shards, 2, device="cuda"), strict=True):
        assert theirs.keys == ours.keys and torch.equal(theirs.labels.cpu(), ours.labels)
        # PNG is exact; the GPU's JPEG decoder rounds in its own way.
        tolerance = 0 if shards.image(0)[:1] == 0x89 else 8
        assert (theirs.images.cpu().int() - ours.images.int()).abs().max() <= tolerance


@pytest.mark.realdata
def test_photos_are_decoded_as_on_the_cpu(realdata: Path) -> None:
    """Sharp, colorful and chroma-subsampled, as smooth scenes are not."""
    photos = sorted(realdata.rglob("*.jpg"))
    assert photos
    source = [np.frombuffer(path.read_bytes(), np.uint8) for path in photos[:8]]
    executor = Executor("gpu", len(source), 2, 1, torch.cuda.current_device())
    pipe = decode_graph(lambda: [source], executor, Inputs(encoded=True, labeled=False))
    pipe.build()
    (decoded,) = pipe.run()
    for number, encoded in enumerate(source):
        ours = decode.image(encoded).astype(int)
        difference = np.abs(np.asarray(decoded[number].as_cpu()).astype(int) - ours)
        assert np.quantile(difference, 0.98) <= 3 and difference.mean() < 1


@pytest.mark.parametrize("stream", ["train", "eval"])
def test_batches_handed_over_are_those_of_the_cpu(folder: Path, stream: str) -> None:
    """Also while the net's stream is busy, and when an earlier batch's memory is used again."""
    gpu = torch.device("cuda", torch.cuda.current_device())
    shards, augment = ShardSet(folder, "train"), Augment(crop=(48, 64), base_size=80)

    def batches(copy_to: torch.device | None) -> Iterator[Batch]:
        if stream == "eval":
            return iter(eval_loader(shards, 2, copy_to=copy_to))
        return itertools.islice(train_loader(shards, augment, 3, copy_to=copy_to), 40)

    busy = torch.randn(2000, 2000, device=gpu)
    sums = []
    for batch in batches(gpu):
        assert batch.images.device == gpu and batch.labels.device == gpu
        assert batch.images.is_contiguous(memory_format=torch.channels_last)
        for _ in range(5):
            busy = torch.tanh(busy @ busy)
        sums.append(torch.stack([batch.images.long().sum(), batch.labels.long().sum()]))
    expected = [[batch.images.long().sum().item(), batch.labels.long().sum().item()] for batch in batches(None)]
    assert torch.stack(sums).tolist() == expected


def test_held_batches_keep_their_pixels(folder: Path) -> None:
    loader = train_loader(ShardSet(folder, "train"), Augment(crop=(48, 64), base_size=80), 3, device="cuda")
    held = [(batch, batch.images.clone()) for batch in itertools.islice(loader, 12)]
    torch.cuda.synchronize()
    assert all(torch.equal(batch.images, copy) for batch, copy in held)


def test_a_batch_used_late_on_another_stream_is_still_itself(folder: Path) -> None:
    """The loader goes on meanwhile; `record_stream` is what keeps the memory."""
    gpu = torch.device("cuda", torch.cuda.current_device())
    loader = train_loader(ShardSet(folder, "train"), Augment(crop=(48, 64), base_size=80), 3, device=gpu)
    side, late, now = torch.cuda.Stream(gpu), [], []
    for batch in itertools.islice(loader, 30):
        now.append(batch.images.sum(dtype=torch.int64))
        side.wait_stream(torch.cuda.current_stream(gpu))
        with torch.cuda.stream(side):
            torch.cuda._sleep(5_000_000)
            late.append(batch.images.sum(dtype=torch.int64))
        batch.images.record_stream(side)
    torch.cuda.synchronize()
    assert torch.equal(torch.stack(late), torch.stack(now))
