"""Feeds requests into a DALI pipeline and pairs its outputs with them; names or skips the file that does not decode."""

from __future__ import annotations

import io
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from nvidia.dali import Pipeline
from PIL import Image, UnidentifiedImageError

from ingest.errors import UserError
from ingest.shards.reader import ShardSet
from pipeline.request import CHANGED, OnBad, Request, broken
from pipeline.workers import Job, in_order

# Threads that read files ahead. Reading and summing a batch of Cityscapes JPEGs takes some milliseconds, which would
# otherwise be spent in the thread that trains.
READERS = 2


class _Files(NamedTuple):
    """A sample's files as stored, and which of them, if any, is not as it was ingested."""

    image: np.ndarray
    label: np.ndarray | None
    damaged: str | None


class _Given(NamedTuple):
    """A request that DALI has been given. It does not copy its inputs: they are to live until they are consumed."""

    request: Request
    files: list[_Files]
    inputs: tuple[Any, ...]


class Feed:
    """Gives DALI the inputs of one request after another, read ahead, and remembers which are under way."""

    def __init__(
        self,
        shards: ShardSet,
        requests: Iterable[Request],
        parameters: Callable[[Request], tuple[Any, ...]],
        build: Callable[[Callable[[], tuple[Any, ...]]], Pipeline],
        prefetch: int,
        on_bad: OnBad = "error",
        fill: Sequence[int] = (),
    ) -> None:
        """parameters: what the graph takes of a request after its images and labels. build: a graph for a source.

        prefetch: batches read ahead of those that DALI asks for. fill: the colour that stands for a skipped image,
        uint8 per channel.
        """
        self._shards, self._parameters, self._build = shards, parameters, build
        self._on_bad, self._fill = on_bad, list(fill)
        jobs: Iterable[tuple[Request, list[Job]]] = (
            (request, [partial(self._read, sample) for sample in map(int, request.samples)]) for request in requests
        )
        self._ahead = in_order(jobs, READERS, prefetch)
        self._under_way: deque[_Given] = deque()
        self._again: deque[_Given] = deque()
        self._bad: dict[int, str] = {}
        self._failure: UserError | None = None

    def __enter__(self) -> Feed:
        return self

    def __exit__(self, *_: object) -> None:
        self._ahead.close()
        self._under_way.clear()

    def source(self) -> tuple[Any, ...]:
        """DALI's `external_source` calls this, some batches ahead of `run`."""
        if self._failure is not None:
            raise StopIteration
        try:
            given = self._prepare()
        except UserError as error:
            # DALI asks some batches ahead: those before this one are still to be handed out.
            self._failure = error
            raise StopIteration from error
        self._under_way.append(given)
        return given.inputs

    def _prepare(self) -> _Given:
        request, files = self._again.popleft()[:2] if self._again else next(self._ahead)
        images, labels = [file.image for file in files], [file.label for file in files]
        for i, sample in enumerate(map(int, request.samples)):
            if sample not in self._bad and (kind := files[i].damaged):
                self._found(sample, kind, CHANGED)
            if sample in self._bad:
                images[i], labels[i] = self._blank()
        inputs = (images, *([labels] if self._shards.labeled else []), *self._parameters(request))
        return _Given(request, files, inputs)

    def run(self) -> Generator[tuple[Request, tuple[Any, ...], dict[str, str]]]:
        """(request, outputs of the graph, its skipped keys and why) until the requests end.

        UserError names a file that does not decode, unless such files are skipped. Close it (`contextlib.closing`)
        before the feed: DALI reads its inputs until the pipeline is gone.
        """
        pipe = self._build(self.source)
        pipe.build()
        on_gpu = pipe.device_id is not None and torch.cuda.is_available()
        while True:
            try:
                # The outputs become usable on torch's current stream, without waiting for them here.
                outputs = pipe.run(torch.cuda.current_stream(pipe.device_id)) if on_gpu else pipe.run()
            except StopIteration:
                if self._failure is not None:
                    raise self._failure from None
                return
            except RuntimeError as error:
                self._learn(error)
                # A pipeline that has failed stays failed: a new one takes first what was under way, in order.
                self._again.extendleft(reversed(self._under_way))
                self._under_way.clear()
                pipe = self._build(self.source)
                pipe.build()
                continue
            request = self._under_way.popleft().request
            skipped = {self._shards.keys[s]: self._bad[int(s)] for s in request.samples if int(s) in self._bad}
            yield request, outputs, skipped

    def _read(self, sample: int) -> _Files:
        image, label = self._shards.image(sample), self._shards.label(sample) if self._shards.labeled else None
        return _Files(image, label, self._shards.damaged(sample, image, label))

    def _learn(self, error: RuntimeError) -> None:
        """Finds the broken files under way; DALI's message does not always say. Raises unless they may be skipped."""
        found = False
        for job in self._under_way:
            for sample, files in zip(map(int, job.request.samples), job.files, strict=True):
                for kind, encoded in (("image", files.image), ("label", files.label)):
                    # Images of other than three channels come as pixels: nothing to decode.
                    if sample in self._bad or encoded is None or encoded.ndim > 1:
                        continue
                    if (reason := _complaint(encoded)) is not None:
                        self._found(sample, kind, reason)
                        found = True
        if not found:
            keys = [self._shards.keys[sample] for job in self._under_way for sample in job.request.samples]
            raise UserError(
                f"DALI fails on one of the samples {', '.join(keys)} of {self._shards.folder}, all of which Pillow "
                f"decodes: {' '.join(str(error).split())[:300]}; data.device=cpu does without DALI"
            ) from error

    def _found(self, sample: int, kind: str, reason: object) -> None:
        if self._on_bad == "error":
            raise broken(self._shards, sample, kind, reason)
        self._bad[sample] = f"its {kind} is broken ({reason})"

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


def _complaint(encoded: np.ndarray) -> str | None:
    """Why Pillow does not decode a file; None: it does."""
    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None  # large scenes are no attack here
    try:
        Image.open(io.BytesIO(encoded.tobytes())).load()
    except UnidentifiedImageError:  # whose message holds an address, another on every rank
        return "no image file"
    except Exception as error:
        return str(error)
    finally:
        Image.MAX_IMAGE_PIXELS = limit
    return None


def _png(pixels: np.ndarray) -> np.ndarray:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return np.frombuffer(buffer.getvalue(), dtype=np.uint8)
