"""Recipes in, trained nets out: `python -m train --help`."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from train.predict.trained import Trained


def load(checkpoint: str | Path, device: str = "auto") -> Trained:
    """A trained net: `.classes`, `.palette`, `.predict(path or uint8 [H, W, C]) -> class ids uint8 [H, W]`.

    checkpoint: a .pt file, or a run folder for its best. device: auto | cpu | gpu. UserError (a ValueError) in a line.
    """
    from train.predict.trained import load  # what takes seconds is imported here

    return load(checkpoint, device)


def _refuse_others() -> None:
    """Says so where a file of the user's, such as ./pipeline.py, stands for a package of ours that this one needs."""
    ours = Path(__file__).resolve().parent.parent
    for name in ("ingest", "pipeline", "nets"):
        spec = importlib.util.find_spec(name)
        found = Path(spec.origin).resolve() if spec is not None and spec.origin else None
        if found is not None and ours not in found.parents:
            text = f"{found} hides segrail's package {name!r}: rename that file, or work in another folder"
            if sys.argv[:1] == ["-m"]:  # `python -m train...`: a traceback would bury it
                print(f"error: {text}", file=sys.stderr)
                sys.exit(2)
            raise ImportError(text)


_refuse_others()
