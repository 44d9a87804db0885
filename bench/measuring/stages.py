"""Which stage of our loader takes the CPU's time: by looking, some hundred times a second, at what each thread does.

Nothing is built into the loader for it. A Python thread's time goes to the module of `pipeline/` that it is found in;
DALI's threads, which Python does not see, go by the names that DALI gives them.
"""

from __future__ import annotations

import sys
import threading
from collections import Counter
from types import FrameType

from bench.measuring import process
from ingest.shards import reader
from pipeline import decode
from pipeline.cpu import warp

PERIOD = 0.004  # seconds between looks
# file -> stage; all others (loader, feed, workers, plan, geometry...) are "rest"
_STAGES = {decode.__file__: "decode", warp.__file__: "warp", reader.__file__: "read"}
# A thread found here waits, it does not work.
_WAITING = ("threading.py", "queue.py", "concurrent/futures/thread.py", "concurrent/futures/_base.py")


class Stages:
    """Use with `with`; `seconds` then holds the CPU seconds of each stage: read, decode, warp, rest."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._looks: dict[int, Counter[str]] = {}
        self._native: dict[int, int] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="stages", daemon=True)

    def __enter__(self) -> Stages:
        self._before = process.thread_seconds()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        after = process.thread_seconds()
        self._stop.set()
        self._thread.join()
        looks = {self._native[ident]: counts for ident, counts in self._looks.items() if ident in self._native}
        total: Counter[str] = Counter()
        for number, (name, seconds) in after.items():
            spent = seconds - self._before.get(number, ("", 0.0))[1]
            if name.startswith("[DALI]"):
                # its input threads run our planning; with one thread its executor decodes too
                total["rest" if "Input" in name else "decode"] += spent  # type: ignore[assignment]
            elif number != self._thread.native_id:
                counts = looks.get(number, Counter({"rest": 1}))
                for stage, share in counts.items():
                    total[stage] += spent * share / counts.total()  # type: ignore[assignment]
        self.seconds = {stage: float(total[stage]) for stage in ("read", "decode", "warp", "rest")}

    def _watch(self) -> None:
        while not self._stop.wait(PERIOD):
            for thread in threading.enumerate():
                if thread.ident is not None and thread.native_id is not None:
                    self._native[thread.ident] = thread.native_id
            for ident, frame in sys._current_frames().items():
                stage = stage_of(frame)
                if stage is not None:
                    self._looks.setdefault(ident, Counter())[stage] += 1


def stage_of(frame: FrameType) -> str | None:
    """read | decode | warp | rest; None: the thread waits."""
    if frame.f_code.co_filename.endswith(_WAITING):
        return None
    outer: FrameType | None = frame
    while outer is not None:
        if outer.f_code.co_filename in _STAGES:
            return _STAGES[outer.f_code.co_filename]
        outer = outer.f_back
    return "rest"
