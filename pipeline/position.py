"""A place in the stream of training crops."""

from __future__ import annotations

from typing import TypedDict


class LoaderState(TypedDict):
    """Where a stream of training crops stands, as checkpoints hold it."""

    epoch: int
    position: int
    """Samples of the epoch that were handed out, over all ranks."""
    fingerprint: str
    """Of the dataset, the seed and the augmentations: another stream is not resumed."""
