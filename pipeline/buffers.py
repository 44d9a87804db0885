"""Reused memory: fresh pages would cost more than what is written to them."""

from __future__ import annotations

import math
import threading

import numpy as np
from numpy.typing import NDArray


def scratch(name: str, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """This thread's uint8 array of that name: any content, overwritten by the next call for the same name."""
    size = math.prod(shape)
    if name not in _held.buffers or _held.buffers[name].size < size:
        _held.buffers[name] = np.empty(size, dtype=np.uint8)
    return _held.buffers[name][:size].reshape(shape)


class _Held(threading.local):
    def __init__(self) -> None:
        self.buffers: dict[str, NDArray[np.uint8]] = {}


_held = _Held()
