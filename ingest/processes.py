"""Worker processes: results in the order of the tasks, a bounded number under way, and no death unnoticed.

Each worker has a pipe of its own. A shared queue, as concurrent.futures has it, waits for ever when a worker is killed
while it holds the queue's lock, as the system does that runs out of memory.
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import pickle
import signal
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any, Generic, TypeVar

from ingest.errors import UserError

Item = TypeVar("Item")
Result = TypeVar("Result")

_SMALL = 16_384  # bytes: a task that fits into a pipe beside the one at work, so that sending it cannot block
_PATIENCE = 5.0  # seconds that a worker gets to end by itself


@dataclass(frozen=True)
class Work(Generic[Item, Result]):
    """What workers do. They find `do` and `start` by their names in their modules."""

    do: Callable[[Item], Result]
    """An error that it raises is raised again where its result would come."""
    name: Callable[[Item], str]
    """What messages call an item."""
    start: Callable[..., None] | None = None
    """Called once in each worker, with `given`."""
    given: tuple[Any, ...] = ()


def in_order(
    items: Iterable[Item], work: Work[Item, Result], workers: int, window: int = 4
) -> Generator[Result, None, None]:
    """Does the work in `workers` processes, with at most `window` items each under way or waiting to be taken.

    UserError when a worker dies, naming what it was at. Close the generator to end the workers.
    """
    pool = _Pool(work, workers)
    numbered = enumerate(items)
    done: dict[int, tuple[bool, Any]] = {}
    given, wanted, more = 0, 0, True
    try:
        while True:
            while more and given - wanted < window * workers:
                number, item = next(numbered, (-1, None))
                more = number >= 0
                if more:
                    pool.put(number, item)
                    given += 1
            if wanted == given:
                return
            while wanted not in done:
                done.update(pool.take())
            failed, result = done.pop(wanted)
            wanted += 1
            if failed:
                raise result
            yield result
    finally:
        pool.close()


@dataclass
class _Worker:
    process: Any
    pipe: Connection
    under_way: deque[tuple[int, Any]] = field(default_factory=deque)  # (number, item): first the one at work


class _Pool:
    """Workers, and a thread that hands out tasks, so that a free worker never waits for the consumer."""

    def __init__(self, work: Work[Any, Any], workers: int) -> None:
        self._name = work.name
        self._waiting: deque[tuple[int, Any]] = deque()
        self._results: dict[int, tuple[bool, Any]] = {}
        self._error: BaseException | None = None
        self._changed = threading.Condition()
        self._wake, self._woken = multiprocessing.Pipe()
        self._closing = False
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([work.do.__module__])
        self._workers = [_started(context, work) for _ in range(workers)]
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def put(self, number: int, item: Any) -> None:
        with self._changed:
            self._waiting.append((number, item))
        self._wake.send_bytes(b"x")

    def take(self) -> dict[int, tuple[bool, Any]]:
        """What has been done since the last call, at least one: number -> (whether it failed, result or error)."""
        with self._changed:
            self._changed.wait_for(lambda: self._results or self._error)
            if not self._results and self._error:
                raise self._error
            taken, self._results = self._results, {}
            return taken

    def close(self) -> None:
        """Ends the workers after what they are at, or by force."""
        self._closing = True
        self._wake.send_bytes(b"x")
        self._thread.join()
        for worker in self._workers:
            worker.pipe.close()
        for worker in self._workers:
            worker.process.join(_PATIENCE)
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()
        self._wake.close()
        self._woken.close()

    def _serve(self) -> None:
        try:
            while not self._closing:
                self._hand_out()
                ready = multiprocessing.connection.wait(
                    [self._woken, *(w.pipe for w in self._workers), *(w.process.sentinel for w in self._workers)]
                )
                if self._woken in ready:
                    self._woken.recv_bytes()
                for worker in self._workers:
                    # A result that was sent whole before its worker died still counts.
                    if worker.pipe in ready:
                        self._receive(worker)
                    elif worker.process.sentinel in ready:
                        raise self._death(worker)
        except BaseException as error:
            with self._changed:
                self._error = error
                self._changed.notify()

    def _hand_out(self) -> None:
        """A task to each worker that has none, and a second one where that cannot block."""
        for depth in (0, 1):
            for worker in self._workers:
                if len(worker.under_way) != depth:
                    continue
                with self._changed:
                    if not self._waiting:
                        return
                    number, item = self._waiting[0]
                    packed = pickle.dumps((number, item))
                    if depth and len(packed) > _SMALL:
                        return
                    self._waiting.popleft()
                worker.under_way.append((number, item))
                try:
                    worker.pipe.send_bytes(packed)
                except OSError as error:  # it died since
                    raise self._death(worker) from error

    def _receive(self, worker: _Worker) -> None:
        try:
            number, failed, result = worker.pipe.recv()
        except (EOFError, OSError, pickle.UnpicklingError) as error:  # it died while it sent
            raise self._death(worker) from error
        worker.under_way.popleft()
        with self._changed:
            self._results[number] = (failed, result)
            self._changed.notify()

    def _death(self, worker: _Worker) -> UserError:
        worker.process.join(_PATIENCE)
        code = worker.process.exitcode
        how = f"by signal {-code} ({signal.Signals(-code).name})" if code and code < 0 else f"with exit code {code}"
        what, remedy = f"a worker process ended {how}", "most likely memory ran out; use fewer with --workers"
        if not worker.under_way:
            return UserError(f"{what}: {remedy}")
        at = self._name(worker.under_way[0][1])
        return UserError(f"{what} while it was at {at}: {remedy}, or leave that file out if it always happens there")


def _started(context: Any, work: Work[Any, Any]) -> _Worker:
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve_tasks, args=(theirs, work.do, work.start, work.given), daemon=True)
    process.start()
    theirs.close()  # so that the pipe ends with the worker
    return _Worker(process, ours)


def _serve_tasks(
    pipe: Connection, do: Callable[[Any], Any], start: Callable[..., None] | None, given: tuple[Any, ...]
) -> None:
    """A worker's life: tasks until the pipe is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the parent decides
    watch_parent()
    if start is not None:
        start(*given)
    while True:
        try:
            number, item = pipe.recv()
        except (EOFError, OSError):  # the parent closed it, perhaps with a reply still unread
            return
        try:
            reply: tuple[int, bool, Any] = (number, False, do(item))
        except Exception as error:
            reply = (number, True, error)
        try:
            pipe.send(reply)
        except (BrokenPipeError, ConnectionResetError):
            return
        except Exception as error:  # what cannot be pickled
            pipe.send((number, True, RuntimeError(f"{type(error).__name__}: {error}")))


def watch_parent() -> None:
    """For worker processes: end when the parent does, whatever ended it."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    threading.Thread(target=_die_with, args=(parent.sentinel,), daemon=True).start()


def _die_with(sentinel: int) -> None:
    """A worker whose parent was killed would wait for work for ever."""
    multiprocessing.connection.wait([sentinel])
    os._exit(1)
