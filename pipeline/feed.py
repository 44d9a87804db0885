"""Feeds requests into a DALI pipeline and pairs its outputs with them; names the broken file when decoding fails."""

from __future__ import annotations

import io
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from nvidia.dali import Pipeline
from PIL import Image

from ingest.errors import UserError
from pipeline.shards import ShardSet


@dataclass(frozen=True)
class Request:
    """One batch to be made."""

    samples: NDArray[np.int64]
    """Sample numbers, [B]."""
    matrices: NDArray[np.float64] | None = None
    """Crop-to-source matrices [B, 2, 3], see `geometry.matrices`; None: the whole image."""
    sigmas: NDArray[np.float64] | None = None
    """Blur sigmas [B], pixels."""


class Feed:
    """Gives DALI the inputs of one request after another, and remembers which are under way."""

    def __init__(
        self, shards: ShardSet, requests: Iterator[Request], inputs: Callable[[Request], tuple[Any, ...]]
    ) -> None:
        self._shards, self._requests, self._inputs = shards, requests, inputs
        self._under_way: deque[Request] = deque()

    def __enter__(self) -> Feed:
        return self

    def __exit__(self, *_: object) -> None:
        self._under_way.clear()

    def source(self) -> tuple[Any, ...]:
        """DALI's `external_source` calls this, some batches ahead of `run`."""
        request = next(self._requests)
        inputs = self._inputs(request)
        self._under_way.append(request)
        return inputs

    def run(self, pipe: Pipeline) -> Iterator[tuple[Request, tuple[Any, ...]]]:
        """(request, outputs of the graph) until the requests end. UserError names a file that does not decode."""
        pipe.build()
        on_gpu = pipe.device_id is not None and torch.cuda.is_available()
        while True:
            try:
                # The outputs become usable on torch's current stream, without waiting for them here.
                outputs = pipe.run(torch.cuda.current_stream()) if on_gpu else pipe.run()
            except StopIteration:
                return
            except RuntimeError as error:
                raise self._diagnosis(error) from error
            yield self._under_way.popleft(), outputs

    def _diagnosis(self, error: RuntimeError) -> Exception:
        """Which of the files under way is broken; DALI's message does not always say."""
        for request in self._under_way:
            for sample in request.samples:
                files = {"image": self._shards.image(sample)} if self._shards.manifest.channels == 3 else {}
                if self._shards.labeled:
                    files["label"] = self._shards.label(sample)
                for kind, encoded in files.items():
                    try:
                        Image.open(io.BytesIO(encoded.tobytes())).load()
                    except Exception as cause:
                        return UserError(
                            f"the {kind} of sample {self._shards.keys[sample]!r} in {self._shards.shard_of(sample)} "
                            f"does not decode ({cause}): see `python -m ingest verify {self._shards.folder}`, "
                            f"and ingest the dataset again"
                        )
        return error


def as_torch(outputs: Any) -> torch.Tensor:
    """A DALI batch of equal shapes -> torch tensor [B, ...] on its device, the same memory.

    The tensor holds on to DALI's buffer (dynamic executor), so it stays valid for as long as it is used.
    """
    return torch.from_dlpack(outputs.as_tensor())
