"""Recipes in, trained nets out: `python -m train --help`."""

import importlib.util
import sys
from pathlib import Path


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
