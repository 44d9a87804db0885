"""Feeds requests into a DALI pipeline and pairs its outputs with them; names or skips the file that does not decode."""

from __future__ import annotations

import io
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from nvidia.dali import Pipeline
from PIL import Image

from pipeline.request import CHANGED, OnBad, Request, broken
from pipeline.shards import ShardSet


class Feed:
    """Gives DALI the inputs of one request after another, and remembers which are under way."""

    def __init__(
        self,
        shards: ShardSet,
        requests: Iterator[Request],
        inputs: Callable[[Request], tuple[Any, ...]],
        build: Callable[[Callable[[], tuple[Any, ...]]], Pipeline],
        on_bad: OnBad = "error",
        fill: Sequence[int] = (),
    ) -> None:
        """inputs: a request's, as the graph takes them, images first and then labels. build: a graph for a source.

        fill: the colour that stands for a skipped image, uint8 per channel.
        """
        self._shards, self._requests, self._inputs, self._build = shards, requests, inputs, build
        self._on_bad, self._fill = on_bad, list(fill)
        # With their inputs: DALI does not copy them, so they are to live until they are consumed.
        self._under_way: deque[tuple[Request, tuple[Any, ...]]] = deque()
        self._again: deque[Request] = deque()
        self._bad: dict[int, str] = {}

    def __enter__(self) -> Feed:
        return self

    def __exit__(self, *_: object) -> None:
        self._under_way.clear()

    def source(self) -> tuple[Any, ...]:
        """DALI's `external_source` calls this, some batches ahead of `run`."""
        request = self._again.popleft() if self._again else next(self._requests)
        inputs = self._inputs(request)
        files = inputs[: 1 + self._shards.labeled]
        for i, sample in enumerate(map(int, request.samples)):
            if sample not in self._bad and (kind := self._shards.damaged(sample, *(part[i] for part in files))):
                self._found(sample, kind, CHANGED)
            if sample in self._bad:
                inputs[0][i], inputs[1][i] = self._blank()
        self._under_way.append((request, inputs))
        return inputs

    def run(self) -> Iterator[tuple[Request, tuple[Any, ...], dict[str, str]]]:
        """(request, outputs of the graph, its skipped keys and why) until the requests end.

        UserError names a file that does not decode, unless such files are skipped.
        """
        pipe = self._build(self.source)
        pipe.build()
        on_gpu = pipe.device_id is not None and torch.cuda.is_available()
        while True:
            try:
                # The outputs become usable on torch's current stream, without waiting for them here.
                outputs = pipe.run(torch.cuda.current_stream()) if on_gpu else pipe.run()
            except StopIteration:
                return
            except RuntimeError as error:
                self._learn(error)
                # A pipeline that has failed stays failed: a new one takes the requests that were under way.
                self._again.extend(request for request, _ in self._under_way)
                self._under_way.clear()
                pipe = self._build(self.source)
                pipe.build()
                continue
            request, _ = self._under_way.popleft()
            skipped = {self._shards.keys[s]: self._bad[int(s)] for s in request.samples if int(s) in self._bad}
            yield request, outputs, skipped

    def _learn(self, error: RuntimeError) -> None:
        """Finds the broken files under way; DALI's message does not always say. Raises unless they may be skipped."""
        found = False
        for request, _ in self._under_way:
            for sample in map(int, request.samples):
                if sample in self._bad:
                    continue
                for kind, encoded in self._files(sample).items():
                    try:
                        Image.open(io.BytesIO(encoded.tobytes())).load()
                    except Exception as cause:
                        self._found(sample, kind, cause)
                        found = True
        if not found:
            raise error

    def _found(self, sample: int, kind: str, reason: object) -> None:
        if self._on_bad == "error":
            raise broken(self._shards, sample, kind, reason)
        self._bad[sample] = f"its {kind} is broken ({reason})"

    def _files(self, sample: int) -> dict[str, np.ndarray]:
        files = {"image": self._shards.image(sample)} if self._shards.manifest.channels == 3 else {}
        return files | ({"label": self._shards.label(sample)} if self._shards.labeled else {})

    def _blank(self) -> tuple[np.ndarray, np.ndarray]:
        """A pixel of the fill colour, and one of label 255: wherever it is sampled, there is nothing else."""
        colour = np.array(self._fill, dtype=np.uint8).reshape(1, 1, -1)
        image = _png(colour) if len(self._fill) == 3 else colour
        return image, _png(np.full((1, 1), 255, dtype=np.uint8))


def as_torch(outputs: Any) -> torch.Tensor:
    """A DALI batch of equal shapes -> torch tensor [B, ...] on its device, the same memory.

    The tensor holds on to DALI's buffer (dynamic executor), so it stays valid for as long as it is used.
    """
    return torch.from_dlpack(outputs.as_tensor())


def _png(pixels: np.ndarray) -> np.ndarray:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return np.frombuffer(buffer.getvalue(), dtype=np.uint8)
