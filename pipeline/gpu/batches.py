"""The GPU device: DALI decodes and warps, on what it was fed by `Feed`."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from contextlib import closing
from typing import Any

import click
import torch

from ingest.shards.reader import ShardSet
from pipeline import geometry, versions
from pipeline.batch import Batch
from pipeline.config import Stream
from pipeline.feeding import Feeding
from pipeline.gpu.feed import Feed, Task
from pipeline.gpu.graph import Crops, Executor, Inputs, dali_parameters, decode_graph, warp_graph
from pipeline.gpu.outputs import Outputs
from pipeline.request import Request, keys_of, mean_color


def crops(shards: ShardSet, requests: Iterable[Request], stream: Stream, feeding: Feeding) -> Generator[Batch]:
    """Training batches. feeding.gpu None: the same graph on the CPU, for tests."""
    augment, inputs = stream.augment, Inputs(encoded=_encoded(shards))
    steps = geometry.most_downsample_steps(shards.sizes_hw, augment)
    colors, erase = bool(augment.colors), augment.erase > 0
    made = Crops(augment.crop, mean_color(shards), augment.blur > 0, steps, colors, erase)
    executor = _executor(feeding, stream.batch_size)
    warn_of_mismatch(feeding)

    def parameters(request: Request) -> tuple[Any, ...]:
        return dali_parameters(request, shards.sizes_hw[request.samples], augment, steps)

    def build(source: Any) -> Any:
        return warp_graph(source, executor, inputs, made)

    outputs, task = Outputs(), Task(build, inputs, parameters, feeding.on_bad_sample)
    with Feed(shards, requests, task, feeding) as feed, closing(feed.run()) as results:
        for request, (images, labels), skipped in results:
            pixels, ids = outputs.tensor(images), outputs.tensor(labels)
            yield Batch(pixels.permute(0, 3, 1, 2), ids.squeeze(3), keys_of(shards, request), skipped)


def whole_images(shards: ShardSet, requests: Iterable[Request], batch_size: int, feeding: Feeding) -> Generator[Batch]:
    """Evaluation batches on the GPU: images of equal size as they are. UserError on a broken file."""
    inputs = Inputs(_encoded(shards), shards.labeled)
    executor = _executor(feeding, batch_size)
    outputs, task = Outputs(), Task(lambda source: decode_graph(source, executor, inputs), inputs)
    with Feed(shards, requests, task, feeding) as feed, closing(feed.run()) as results:
        for request, found, _ in results:
            labels = outputs.tensor(found[1]).squeeze(3) if shards.labeled else None
            yield Batch(outputs.tensor(found[0]).permute(0, 3, 1, 2), labels, keys_of(shards, request))


def warn_of_mismatch(feeding: Feeding) -> None:
    """Says in a line, on the first rank that uses a GPU, when DALI is built for another CUDA than torch."""
    line = versions.cuda_mismatch(torch.version.cuda, versions.dali_packages())
    if line and feeding.gpu is not None and feeding.rank == 0:
        click.echo(line, err=True)


def _encoded(shards: ShardSet) -> bool:
    """Whether the graph decodes the images: JPEGs only, which a GPU has hardware for."""
    return shards.image_formats == {"jpg"}


def _executor(feeding: Feeding, batch_size: int) -> Executor:
    backend: Any = "cpu" if feeding.gpu is None else "gpu"
    threads, load = feeding.workers, feeding.hw_decoder_load
    return Executor(backend, batch_size, threads, feeding.prefetch, feeding.gpu, load)
