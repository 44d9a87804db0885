"""Stages about the recipe keys that are off until a GPU has measured them: images kept on the GPU, graphs, compiler."""

from __future__ import annotations

import contextlib
import itertools
import time

import numpy as np
import torch

from bench.gpu.others import _bench, _device, _some
from bench.gpu.pixels import EVERYTHING, _loader, _spread
from bench.gpu.stage import Place, Result
from pipeline.augment import Augment
from pipeline.feeding import Feeding
from pipeline.loader import TrainLoader

# Key=value of each row, on top of the recipe's own; the first is what they are compared with.
LEVERS = {
    "as it is": [],
    "data.cache=gpu": ["data.cache=gpu"],
    "train.priority_stream": ["train.priority_stream=true"],
    "train.cuda_graphs": ["train.cuda_graphs=true"],
    "train.compile": ["train.compile=true"],
    "train.compile=loss": ["train.compile=loss"],
    "train.compile=loss, train.cuda_graphs": ["train.compile=loss", "train.cuda_graphs=true"],
}
_NO_GPU = ("as it is", "train.priority_stream")  # what a CPU can go through in seconds


def resident(place: Place) -> Result:
    """Crops from images that stay on the device, against the CPU device's: gray levels, and images/s of crops alone."""
    found = {}
    for name, augment in (("default", Augment()), ("everything", EVERYTHING)):
        ours = _loader(place, augment, batch=4, cpu=True)
        kept = TrainLoader(ours.shards, ours.stream, Feeding(place.device, resident=True))
        gaps, labels = [], []
        count = 2 if place.quick else 16
        with contextlib.closing(iter(kept)) as stream:
            begun = time.perf_counter()
            theirs = [next(stream)]
            decoded = time.perf_counter() - begun
            theirs += itertools.islice(stream, count - 1)
            for one, other in zip(ours, theirs, strict=False):
                gaps.append((one.images.int() - other.images.cpu().int()).abs().flatten())
                assert one.labels is not None and other.labels is not None
                labels.append((one.labels != other.labels.cpu()).float().mean().item())
            begun = time.perf_counter()
            images = sum(len(batch.keys) for batch in itertools.islice(stream, 5 if place.quick else 200))
            if place.on_gpu:
                torch.cuda.synchronize()
            speed = images / (time.perf_counter() - begun)
        facts = {"labels_that_differ": float(np.mean(labels)), "first_batch_s": decoded, "images_per_second": speed}
        found[name] = _spread(torch.cat(gaps).numpy()) | facts
    return found


def levers(place: Place) -> Result:
    """bench.train's row `ours` of a small net and a large one with each key; those that the time allows."""
    found: Result = {}
    rows = {key: words for key, words in LEVERS.items() if place.on_gpu or key in _NO_GPU}
    for net, recipe in {
        "ENet, 256x192": ["--cfg", "camvid_enet"],
        "PSPNet-R50, 512x512": ["--cfg", "voc_pspnet", "net.pretrained=false", "augment.crop=[512,512]"],
    }.items():
        if place.quick and "ENet" not in net:
            continue
        much = ["--steps", "1", "--repeats", "1"] if place.quick else ["--steps", "30", "--repeats", "1"]
        more = ["data.batch_size=2"] if place.quick else []
        data = [str(place.shards), "data.train=train", "data.val=", f"train.device={_device(place)}"]
        for number, (key, words) in enumerate(rows.items()):
            out = place.folder / f"lever-{net.split(',')[0]}-{number}.json"
            facts = _bench(["bench.train", *recipe, *data, *more, *words, "--rows", "ours", *much], out)
            found[f"{net}: {key}"] = facts["rows"]["ours"] if "rows" in facts else facts
    return _some(found)
