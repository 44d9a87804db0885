"""Threads that make batches ahead of who takes them, a job a sample."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

Made = TypeVar("Made")
# One sample's work; what it returns is kept.
Job = Callable[[], Any]


def in_order(batches: Iterable[tuple[Made, list[Job]]], threads: int, depth: int) -> Generator[tuple[Made, list[Any]]]:
    """Runs the jobs of each batch on `threads` cores, `depth` batches ahead: (batch, its jobs' results), in order.

    More than one core gets a thread more than there are cores: it runs while another waits for the interpreter's lock
    between two calls (1030 against 850 crops/s of VOC size on two cores).

    A job's error is raised where its batch is asked for. Closing the generator drops what has not begun and ends the
    threads.
    """
    waiting: deque[tuple[Made, list[Future[Any]]]] = deque()
    pool = ThreadPoolExecutor(threads + (threads > 1), thread_name_prefix="loader")
    try:
        for made, jobs in batches:
            waiting.append((made, [pool.submit(job) for job in jobs]))
            # The threads go from one batch to the next without a gap: no batch waits for the slowest of the one before.
            if len(waiting) > depth:
                made, futures = waiting.popleft()
                yield made, [future.result() for future in futures]
        while waiting:
            made, futures = waiting.popleft()
            yield made, [future.result() for future in futures]
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
