"""What the workers of tests/ingest/test_processes.py do."""

from __future__ import annotations

import os
import signal
import threading
import time

from ingest.errors import UserError

BIG = 8 << 20  # bytes: far more than a pipe holds, so that sending takes a while


def double(item: int) -> int:
    time.sleep(0.002 * (item % 3))
    return 2 * item


def fail_at_five(item: int) -> int:
    if item == 5:
        raise UserError("item five is bad")
    return item


def unpicklable(item: int) -> object:
    return (lambda: item) if item == 2 else item


def big(item: tuple[int, bytes]) -> bytes:
    return bytes([item[0] % 256]) * BIG


def die_while_sending(item: tuple[int, float]) -> bytes:
    """The worker is killed some milliseconds after it began to send a large result."""
    _, delay = item
    if delay >= 0:
        threading.Timer(delay, os.kill, (os.getpid(), signal.SIGKILL)).start()
    return bytes(BIG) if delay >= 0 else b""


def die_at_seven(item: int) -> int:
    if item == 7:
        os.kill(os.getpid(), signal.SIGKILL)
    return item


def remember(value: int) -> None:
    global _given
    _given = value


def given(item: int) -> int:
    return item + _given
