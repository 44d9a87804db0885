"""Loaders for tests, from plain keywords."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import torch

from ingest.shards.reader import ShardSet
from pipeline.augment import Augment
from pipeline.config import Stream
from pipeline.feeding import Feeding
from pipeline.loader import EvalLoader, TrainLoader


def train_loader(shards: ShardSet, augment: Augment, batch_size: int, **options: Any) -> TrainLoader:
    """options: fields of `Stream` and `Feeding`."""
    names = {field.name for field in fields(Stream)}
    stream = Stream(batch_size=batch_size, augment=augment, **{k: v for k, v in options.items() if k in names})
    return TrainLoader(shards, stream, feeding(**{k: v for k, v in options.items() if k not in names}))


def eval_loader(shards: ShardSet, batch_size: int = 1, **options: Any) -> EvalLoader:
    """options: fields of `Feeding`."""
    return EvalLoader(shards, batch_size, feeding(**options))


def feeding(**options: Any) -> Feeding:
    if "device" in options:
        options["device"] = torch.device(options["device"])
    return Feeding(**options)
