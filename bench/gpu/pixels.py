"""Stages about pixels: does a GPU decode, warp and hand over what the CPU device does?"""

from __future__ import annotations

import itertools
import time
from typing import Any

import numpy as np
import torch
from nvidia.dali import Pipeline, fn, types

from bench.gpu.stage import Place, Result, photos
from bench.measuring import process
from ingest.shards.reader import ShardSet
from pipeline import decode
from pipeline.augment import Augment
from pipeline.config import Stream
from pipeline.feeding import Feeding
from pipeline.gpu import batches as dali
from pipeline.loader import TrainLoader

# What changes colors, turns and erases, too: the whole graph.
EVERYTHING = Augment(
    brightness=0.125,
    contrast=0.5,
    saturation=0.5,
    hue=36.0,
    gray=0.1,
    vertical_flip=0.5,
    quarter_turns=0.5,
    erase=0.5,
)


def smoke(place: Place) -> Result:
    """The GPU device at work: images/s, and the CPU time of each thread."""
    batches = 5 if place.quick else 60
    loader = _loader(place, Augment(), batch=8)
    stream = _made(loader, place)
    next(stream)
    before, start = process.thread_seconds(), time.perf_counter()
    images = sum(len(batch.keys) for batch in itertools.islice(stream, batches))
    if place.on_gpu:
        torch.cuda.synchronize()
    took, after = time.perf_counter() - start, process.thread_seconds()
    spent = {number: seconds - before.get(number, ("", 0.0))[1] for number, (_, seconds) in after.items()}
    busiest = [number for number in sorted(spent, key=lambda number: -spent[number])[:12] if spent[number] > 0]
    threads = [{"thread": after[number][0], "cpu_ms_per_image": 1000 * spent[number] / images} for number in busiest]
    return {"images_per_second": images / took, "threads": threads}


def streams(place: Place) -> Result:
    """The CPU device's stream against the GPU device's, with and without the newer augmentations."""
    found = {}
    for name, augment in (("default", Augment()), ("everything", EVERYTHING)):
        ours, theirs = _loader(place, augment, batch=4, cpu=True), _made(_loader(place, augment, batch=4), place)
        differences, labels = [], []
        for one, other in zip(ours, itertools.islice(theirs, 2 if place.quick else 16), strict=False):
            if one.keys != other.keys:
                raise RuntimeError(f"the streams hold other samples: {one.keys} and {other.keys}")
            differences.append((one.images.int() - other.images.cpu().int()).abs().flatten())
            assert one.labels is not None and other.labels is not None
            labels.append((one.labels != other.labels.cpu()).float().mean().item())
        found[name] = {**_spread(torch.cat(differences).numpy()), "labels_that_differ": float(np.mean(labels))}
    return found


def decoders(place: Place) -> Result:
    """JPEGs by DALI against the CPU device's decoder, over the hardware decoder's load and chroma interpolation."""
    files = [np.frombuffer(path.read_bytes(), np.uint8) for path in photos()]
    source = "real photos"
    if not files:
        shards, source = ShardSet(place.shards, "train"), "drawn scenes"
        files = [shards.image(sample) for sample in range(min(8, len(shards)))]
    ours = [decode.image(file).astype(int) for file in files]
    rows = []
    for load, fancy in itertools.product((0.0, 0.65, 1.0) if place.on_gpu else (0.0,), (True, False)):
        pipe = _decoder(files, place, load, fancy)
        (decoded,) = pipe.run()
        theirs = [np.asarray(_on_cpu(decoded[i], place)).astype(int) for i in range(len(files))]
        gaps = np.concatenate([np.abs(a - b).ravel() for a, b in zip(ours, theirs, strict=True)])
        rows.append(
            {"hw_decoder_load": load, "fancy": fancy, **_spread(gaps), "images_per_second": _speed(pipe, place)}
        )
    return {"files": f"{len(files)} {source}", "rows": rows}


def _decoder(files: list[np.ndarray], place: Place, load: float, fancy: bool) -> Pipeline:
    pipe = Pipeline(len(files), 4, place.device.index if place.on_gpu else None, exec_dynamic=True)
    options: dict[str, Any] = {"hw_decoder_load": load} if place.on_gpu else {}
    with pipe:
        encoded = fn.external_source(source=lambda: files, batch=True, no_copy=True, dtype=types.UINT8, ndim=1)
        device = "mixed" if place.on_gpu else "cpu"
        options |= {"adjust_orientation": False, "jpeg_fancy_upsampling": fancy}
        pipe.set_outputs(fn.decoders.image(encoded, device=device, **options))
    pipe.build()
    return pipe


def _speed(pipe: Pipeline, place: Place) -> float:
    runs, start = 0, time.perf_counter()
    while time.perf_counter() < start + (0.1 if place.quick else 1.0):
        pipe.run()
        runs += 1
    if place.on_gpu:
        torch.cuda.synchronize()
    return runs * pipe.max_batch_size / (time.perf_counter() - start)


def _on_cpu(tensor: Any, place: Place) -> Any:
    return tensor.as_cpu() if place.on_gpu else tensor


def _spread(gaps: np.ndarray) -> Result:
    """Of absolute differences, in gray levels."""
    return {"mean": float(gaps.mean()), "p98": float(np.quantile(gaps, 0.98)), "most": int(gaps.max())}


def _loader(place: Place, augment: Augment, batch: int, cpu: bool = False) -> TrainLoader:
    shards = ShardSet(place.shards, "train")
    feeding = Feeding() if cpu else Feeding(place.device, threads=0 if place.on_gpu else 2)
    return TrainLoader(shards, Stream(batch_size=min(batch, len(shards)), augment=augment), feeding)


def _made(loader: TrainLoader, place: Place) -> Any:
    """The loader's batches by the GPU device; without a GPU by its graph on the CPU."""
    if place.on_gpu:
        return iter(loader)
    return dali.crops(loader.shards, loader._requests(), loader.stream, loader.feeding)
