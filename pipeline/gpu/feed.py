"""Feeds requests into a DALI pipeline and pairs its outputs with them; names or skips the file that does not decode."""

from __future__ import annotations

import io
from collections import deque
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from nvidia.dali import Pipeline
from PIL import Image, UnidentifiedImageError

from ingest.errors import UserError
from ingest.shards.reader import ShardSet
from pipeline import decode
from pipeline.feeding import Feeding, OnBad
from pipeline.gpu.graph import Inputs
from pipeline.request import CHANGED, Request, broken, mean_color
from pipeline.workers import Job, in_order


@dataclass(frozen=True)
class Task:
    """The graph that a feed serves."""

    build: Callable[[Callable[[], tuple[Any, ...]]], Pipeline]
    """The graph for a source."""
    inputs: Inputs
    parameters: Callable[[Request], tuple[Any, ...]] = lambda _: ()
    """What the graph takes of a request besides images and labels."""
    on_bad: OnBad = "error"


class _Sample(NamedTuple):
    """A sample as the graph takes it, or what is wrong with it."""

    image: np.ndarray
    label: np.ndarray | None
    damaged: tuple[str, str] | None
    """("image" or "label", why)."""


class _Given(NamedTuple):
    """A request that DALI has been given. It does not copy its inputs: they are to live until they are consumed."""

    request: Request
    samples: list[_Sample]
    inputs: tuple[Any, ...]


class Feed:
    """Gives DALI the inputs of one request after another, read ahead, and remembers which are under way."""

    def __init__(self, shards: ShardSet, requests: Iterable[Request], task: Task, feeding: Feeding) -> None:
        """Files are read, and all but JPEGs decoded, by `feeding.workers` threads, `feeding.prefetch` batches ahead of
        those that DALI asks for: nothing of it is left to the thread that trains."""
        self._shards, self._task = shards, task
        jobs: Iterable[tuple[Request, list[Job]]] = (
            (request, [partial(self._read, sample) for sample in map(int, request.samples)]) for request in requests
        )
        self._ahead = in_order(jobs, feeding.workers, feeding.prefetch)
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
        request, samples = self._again.popleft()[:2] if self._again else next(self._ahead)
        images, labels = [sample.image for sample in samples], [sample.label for sample in samples]
        for i, number in enumerate(map(int, request.samples)):
            if number not in self._bad and (damage := samples[i].damaged):
                self._found(number, *damage)
            if number in self._bad:
                images[i], labels[i] = self._blank(request, i)
        inputs = (images, *([labels] if self._task.inputs.labeled else []), *self._task.parameters(request))
        return _Given(request, samples, inputs)

    def run(self) -> Generator[tuple[Request, tuple[Any, ...], dict[str, str]]]:
        """(request, outputs of the graph, its skipped keys and why) until the requests end.

        UserError names a file that does not decode, unless such files are skipped. Close it (`contextlib.closing`)
        before the feed: DALI reads its inputs until the pipeline is gone.
        """
        pipe = self._task.build(self.source)
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
                self._find_broken(error)
                # A pipeline that has failed stays failed: a new one takes first what was under way, in order.
                self._again.extendleft(reversed(self._under_way))
                self._under_way.clear()
                pipe = self._task.build(self.source)
                pipe.build()
                continue
            request = self._under_way.popleft().request
            skipped = {self._shards.keys[s]: self._bad[int(s)] for s in request.samples if int(s) in self._bad}
            yield request, outputs, skipped

    def _read(self, number: int) -> _Sample:
        """Runs in the readers' threads."""
        shards = self._shards
        # Read outside the `try`: what reading says of a shard is no fault of the sample.
        image, label = shards.image(number), shards.label(number) if self._task.inputs.labeled else None
        if damaged := shards.damaged(number, image, label):
            return _Sample(image, label, (damaged, CHANGED))
        size = (*shards.sizes_hw[number].tolist(),)
        kind = "image"
        try:
            if self._task.inputs.encoded:
                decode.check_jpeg(image, size)
            else:
                image = decode.image(image, out=np.empty((*size, shards.manifest.channels), dtype=np.uint8))
            if label is not None:
                kind = "label"
                label = decode.label(label, size)[:, :, None]
        except decode.DecodeError as error:
            return _Sample(image, label, (kind, str(error)))
        return _Sample(image, label, None)

    def _find_broken(self, error: RuntimeError) -> None:
        """Finds the JPEGs under way that are broken; DALI's message does not always say. Raises unless they may be
        skipped, or when there is none."""
        found = False
        for job in self._under_way:
            for number, sample in zip(map(int, job.request.samples), job.samples, strict=True):
                if number in self._bad or not self._task.inputs.encoded:
                    continue
                if (reason := _complaint(sample.image)) is not None:
                    self._found(number, "image", reason)
                    found = True
        if not found:
            keys = [self._shards.keys[number] for job in self._under_way for number in job.request.samples]
            raise UserError(
                f"DALI fails on one of the samples {', '.join(keys)} of {self._shards.folder}, all of which Pillow "
                f"decodes: {' '.join(str(error).split())[:300]}; data.device=cpu does without DALI"
            ) from error

    def _found(self, number: int, kind: str, reason: object) -> None:
        if self._task.on_bad == "error":
            raise broken(self._shards, number, kind, reason)
        self._bad[number] = f"its {kind} is broken ({reason})"

    def _blank(self, request: Request, i: int) -> tuple[np.ndarray, np.ndarray]:
        """A pixel of the padding's color, and one of label 255: wherever it is sampled, there is nothing else."""
        found = mean_color(self._shards) if request.colors is None else request.colors.padding[i]
        color = np.array(found, dtype=np.uint8).reshape(1, 1, -1)
        return _png(color) if self._task.inputs.encoded else color, np.full((1, 1, 1), 255, dtype=np.uint8)


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
