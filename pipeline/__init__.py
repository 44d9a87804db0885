"""Shards in, batches out: numpy plans, DALI (and on a CPU one OpenCV call a sample) executes."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path


def _refuse_another_ingest() -> None:
    """Says so where a file of the user's, ./ingest.py, stands for our package; `train/__init__.py` has the same."""
    spec = importlib.util.find_spec("ingest")
    found = Path(spec.origin).resolve() if spec is not None and spec.origin else None
    if found is not None and Path(__file__).resolve().parent.parent not in found.parents:
        text = f"{found} hides segrail's package 'ingest': rename that file, or work in another folder"
        if sys.argv[:1] == ["-m"]:  # `python -m pipeline`: a traceback would bury it
            print(f"error: {text}", file=sys.stderr)
            sys.exit(2)
        raise ImportError(text)


_refuse_another_ingest()
