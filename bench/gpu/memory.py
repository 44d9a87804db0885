"""Stages about memory and streams: is a batch still itself when it is used late, and may a CUDA graph be captured?"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator

import torch
from torch import nn

from bench.gpu.pixels import _loader
from bench.gpu.stage import Place, Result
from pipeline.augment import Augment
from pipeline.batch import Batch
from pipeline.config import Stream
from pipeline.feeding import Feeding
from pipeline.loader import TrainLoader

_SLEEP = 20_000_000  # clock cycles that the side stream is behind, about 10 ms


def reuse(place: Place) -> Result:
    """Sums of batches taken late, on a slow side stream, while the loader goes on, against those of the CPU device.

    What the loader hands out must stay as it is until its last use on any stream that `record_stream` knows of.
    """
    place.needs_gpu()
    count = 40
    expected = [_sums(batch) for batch in itertools.islice(_loader(place, Augment(), 8, cpu=True), count)]
    found = {}
    for name, feeding in {
        "gpu": Feeding(place.device),
        "cpu, copied": Feeding(copy_to=place.device),
    }.items():
        cpu = _loader(place, Augment(), 8, cpu=True)
        loader = TrainLoader(cpu.shards, cpu.stream, feeding)
        late, now = _late_sums(loader, count, place)
        wrong = sum(not torch.equal(a, b) for a, b in zip(late, now, strict=True))
        apart = [float((a - b.cpu()).abs().max() / a.max()) for a, b in zip(expected, late, strict=True)]
        found[name] = {"batches": count, "changed_before_use": wrong, "most_from_cpu": max(apart)}
    return found


def _late_sums(loader: TrainLoader, count: int, place: Place) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Sums of each batch as the slow stream sees it, and as the net's stream sees it at once."""
    side = torch.cuda.Stream(place.device)
    late, now = [], []
    for batch in itertools.islice(loader, count):
        now.append(_sums(batch))
        side.wait_stream(torch.cuda.current_stream(place.device))
        with torch.cuda.stream(side):
            torch.cuda._sleep(_SLEEP)
            late.append(_sums(batch))
        for tensor in (batch.images, batch.labels):
            assert tensor is not None
            tensor.record_stream(side)
    torch.cuda.synchronize()
    return late, now


def _sums(batch: Batch) -> torch.Tensor:
    """Of images and labels, float64 [2]."""
    assert batch.labels is not None
    return torch.stack([batch.images.sum(dtype=torch.float64), batch.labels.sum(dtype=torch.float64)])


def capture(place: Place) -> Result:
    """A small net's step captured as a CUDA graph while the loader's threads work, and replayed on later batches."""
    place.needs_gpu()
    found = {}
    for mode in ("global", "thread_local", "relaxed"):
        try:
            found[mode] = _captured(place, mode)
        except RuntimeError as error:
            found[mode] = {"error": " ".join(str(error).split())[:300]}
            torch.cuda.synchronize()
    return found


def _captured(place: Place, mode: str) -> Result:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 1, 3)).to(place.device)
    loader = TrainLoader(_loader(place, Augment(), 8).shards, Stream(), Feeding(place.device))
    with contextlib.closing(iter(loader)) as stream:
        return _replayed(net, stream, place, mode)


def _replayed(net: nn.Module, stream: Iterator[Batch], place: Place, mode: str) -> Result:
    still = next(stream).images.float()
    side = torch.cuda.Stream(place.device)
    side.wait_stream(torch.cuda.current_stream(place.device))
    with torch.cuda.stream(side), torch.no_grad():  # cuDNN chooses its algorithms outside the capture
        for _ in range(3):
            net(still)
    torch.cuda.current_stream(place.device).wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.no_grad(), torch.cuda.graph(graph, capture_error_mode=mode):
        result = net(still)
    worst = 0.0
    for batch in itertools.islice(stream, 20):
        still.copy_(batch.images)
        graph.replay()
        with torch.no_grad():
            worst = max(worst, (result - net(batch.images.float())).abs().max().item())
    return {"replays": 20, "most_from_eager": worst}
