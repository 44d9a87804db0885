"""The work on one sample: read, decode once, check, convert where needed. Runs in worker processes."""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass

from ingest import images, labels
from ingest.errors import UserError
from ingest.labels import LabelMap
from ingest.raw import Pair

_WINDOW = 4  # samples in flight per worker: enough to keep workers busy, little enough to bound memory


@dataclass(frozen=True)
class Rules:
    """How samples are converted: the same for all samples of a dataset."""

    labels: LabelMap
    classes: tuple[str, ...]


@dataclass(frozen=True)
class Converted:
    """A sample ready for the tar, and what was counted while it was decoded."""

    image: bytes
    image_ext: str
    label: bytes | None
    height: int
    width: int
    id_pixels: list[int]  # [256]: pixels per train id
    channel_sum: list[int]
    channel_square_sum: list[int]


def convert(pair: Pair, rules: Rules) -> Converted:
    """Decodes and checks one pair. Raises UserError naming the file."""
    label, label_hw, id_pixels = None, None, [0] * 256
    if pair.label is not None:
        label, ids, counts = labels.normalise(pair.label.read(), pair.label.name, rules.labels, rules.classes)
        label_hw = (ids.shape[0], ids.shape[1])
        id_pixels = counts.tolist()
    image = images.normalise(pair.image.read(), pair.image.name, label_hw)
    return Converted(
        image.data,
        image.ext,
        label,
        image.height,
        image.width,
        id_pixels,
        image.channel_sum,
        image.channel_square_sum,
    )


def convert_all(pairs: Iterable[Pair], rules: Rules, workers: int) -> Iterator[Converted]:
    """Converts in parallel, yields in order, with a bounded number of samples in memory."""
    if workers == 1:
        for pair in pairs:
            yield convert(pair, rules)
        return
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_start_worker, initargs=(rules,))
    waiting: deque[Future[Converted]] = deque()
    try:
        for pair in pairs:
            waiting.append(pool.submit(_convert_in_worker, pair))
            if len(waiting) >= _WINDOW * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except BrokenProcessPool as error:
        raise UserError(
            "a worker process was killed, most likely for want of memory: use fewer with --workers"
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


_rules: Rules  # a worker's own copy, sent once


def _start_worker(rules: Rules) -> None:
    global _rules
    _rules = rules
    parent = multiprocessing.parent_process()
    assert parent is not None
    threading.Thread(target=_die_with, args=(parent.sentinel,), daemon=True).start()


def _die_with(sentinel: int) -> None:
    """A worker whose parent was killed would wait for work for ever."""
    multiprocessing.connection.wait([sentinel])
    os._exit(1)


def _convert_in_worker(pair: Pair) -> Converted:
    return convert(pair, _rules)
