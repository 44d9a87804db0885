"""The GPU device: DALI decodes and warps, on what it was fed by `Feed`."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import closing
from typing import Any

import torch

from ingest.shards.reader import ShardSet
from pipeline import geometry
from pipeline.augment import Augment
from pipeline.batch import Batch
from pipeline.gpu.feed import Feed, as_torch
from pipeline.gpu.graph import dali_parameters, decode_graph, warp_graph
from pipeline.request import OnBad, Request, keys_of


def crops(
    shards: ShardSet,
    requests: Iterator[Request],
    augment: Augment,
    fill: list[int],
    batch_size: int,
    threads: int,
    prefetch: int,
    device_id: int | None,
    on_bad: OnBad = "error",
) -> Generator[Batch]:
    """Training batches on the GPU. device_id None: the same graph on the CPU, for tests."""
    backend: Any = "cpu" if device_id is None else "gpu"
    halvings = geometry.most_halvings(shards.sizes_hw, augment)

    def parameters(request: Request) -> tuple[Any, ...]:
        return dali_parameters(request, shards.sizes_hw[request.samples], augment, halvings)

    def build(source: Any) -> Any:
        blur = augment.blur > 0
        return warp_graph(source, backend, batch_size, threads, prefetch, device_id, augment.crop, fill, blur, halvings)

    with Feed(shards, requests, parameters, build, prefetch, on_bad, fill) as feed, closing(feed.run()) as made:
        for request, (images, labels), skipped in made:
            keys = keys_of(shards, request)
            yield Batch(as_torch(images).permute(0, 3, 1, 2), as_torch(labels).squeeze(3), keys, skipped)


def whole_images(
    shards: ShardSet, requests: Iterator[Request], batch_size: int, threads: int, prefetch: int, device_id: int | None
) -> Generator[Batch]:
    """Evaluation batches on the GPU: images of equal size as they are. UserError on a broken file."""
    backend: Any = "cpu" if device_id is None else "gpu"

    def build(source: Any) -> Any:
        return decode_graph(
            source, backend, batch_size, threads, prefetch, device_id, shards.labeled, shards.manifest.channels
        )

    with Feed(shards, requests, lambda _: (), build, prefetch) as feed, closing(feed.run()) as made:
        for request, outputs, _ in made:
            labels: torch.Tensor | None = as_torch(outputs[1]).squeeze(3) if shards.labeled else None
            yield Batch(as_torch(outputs[0]).permute(0, 3, 1, 2), labels, keys_of(shards, request))
