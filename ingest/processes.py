"""Worker processes that end when their parent does."""

from __future__ import annotations

import multiprocessing.connection
import os
import threading


def watch_parent() -> None:
    """For worker processes: end when the parent does, whatever ended it."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    threading.Thread(target=_die_with, args=(parent.sentinel,), daemon=True).start()


def _die_with(sentinel: int) -> None:
    """A worker whose parent was killed would wait for work for ever."""
    multiprocessing.connection.wait([sentinel])
    os._exit(1)
