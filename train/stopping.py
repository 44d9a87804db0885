"""The wish to stop: SIGTERM, or Ctrl-C. Once: after what is under way; twice: at once."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from typing import Any

from train.distributed import Ranks


class Stop:
    """Whether this rank was asked to stop, and, when they meet, whether any was."""

    def __init__(self, ranks: Ranks) -> None:
        self._ranks = ranks
        self.signal: int | None = None
        """The signal that asked."""
        self.doing = "this step"
        """What is finished first, in the message."""
        self._since = 0.0

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Within the block signals are wishes. After an error of one of several ranks, SIGTERM is ignored."""
        previous = {number: signal.signal(number, self._ask) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        except BaseException:
            if self._ranks.count > 1:
                # This rank is about to end and say why (`train.failure`): torchrun's SIGTERM may come before that.
                previous[signal.SIGTERM] = signal.SIG_IGN
            raise
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    def wanted(self) -> bool:
        """Whether any rank was asked. Collective: every rank calls it at the same place."""
        return self._ranks.any(self.signal is not None)

    def agree(self) -> int:
        """The signal of the first rank that has one, on all. Collective, once a stop is wanted."""
        self.signal = next(number for number in self._ranks.gather(self.signal) if number is not None)
        return self.signal

    def _ask(self, number: int, frame: Any) -> None:
        now = time.monotonic()
        # Ctrl-C reaches a rank twice, from the terminal and from torchrun.
        if self.signal is not None and not (self._ranks.count > 1 and now - self._since < 1):
            raise KeyboardInterrupt  # asked twice: now
        if self.signal is None and self._ranks.is_main:
            # os.write: the signal may have come in the middle of a print
            text = f"\n{signal.Signals(number).name}: stopping after {self.doing}; once more to quit at once\n"
            with contextlib.suppress(OSError):
                os.write(2, text.encode())
        self.signal, self._since = number, now
