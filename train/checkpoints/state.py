"""What a checkpoint holds, key by key. The keys are those on disk: they stay as they are."""

from __future__ import annotations

from typing import Any, TypedDict

import torch

from ingest.shards.manifest import Manifest
from pipeline.position import LoaderState

Tensors = dict[str, torch.Tensor]


class DatasetFacts(TypedDict):
    """What is kept of a dataset: enough to build the net and to name and color its output."""

    name: str
    classes: list[str]
    palette: list[list[int]]
    mean: list[float]
    """RGB (or all bands), of pixels in 0..1, as is std."""
    std: list[float]
    channels: int
    ignore: int
    pixels: dict[str, Any] | None
    """What ingest did to raw files, for prediction to do alike; None, or absent in older checkpoints: nothing."""
    raw_ids: list[int] | None
    """Per class, its value in the source's masks; None, or absent in older checkpoints: not known."""


BatchFacts = TypedDict("BatchFacts", {"global": int, "ranks": int, "accumulate": int})
"""Crops a step of all ranks (before accumulation), how many ranks, and the accumulation."""


class Averages(TypedDict):
    """`train.optim.ema.Ema.state_dict`."""

    steps: int
    average: Tensors


class MonitorState(TypedDict):
    """`train.checkpoints.monitor.Monitor.state_dict`."""

    name: str
    """Of the score."""
    best: list[Any] | None
    """[value, step, mIoU]; None: no validation yet."""
    since: int
    """Validations without a better one."""
    kept: list[list[Any]]
    """[value, step] of the checkpoints that train.keep_best keeps."""


class State(TypedDict, total=False):
    """A checkpoint. Those of older versions lack some of the keys."""

    format: str
    model: Tensors
    ema: Averages | None
    optimizer: dict[str, Any]
    """torch's own."""
    scaler: dict[str, Any]
    """torch's own; empty without fp16."""
    loader: LoaderState
    step: int
    unjudged: bool
    """Whether these weights are saved, but not yet validated."""
    monitor: MonitorState
    batch: BatchFacts
    config: dict[str, Any]
    """The recipe, as `train.config.parse` reads it."""
    dataset: DatasetFacts
    versions: dict[str, str]
    threads: int
    """OpenMP's, of each rank."""


def dataset_facts(manifest: Manifest) -> DatasetFacts:
    """Of a shard folder."""
    return DatasetFacts(
        name=manifest.name,
        classes=manifest.classes,
        palette=manifest.palette,
        mean=manifest.mean,
        std=manifest.std,
        channels=manifest.channels,
        ignore=manifest.ignore,
        pixels=manifest.pixels,
        raw_ids=manifest.raw_ids,
    )
