"""What a finished run leaves beside its checkpoints: validation.json, the best and worst images, report.html."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from train.distributed import Ranks
from train.evaluate import Evaluation, as_json
from train.tracking import Tracker

VALIDATION = "validation.json"


def validated(folder: Path, step: int) -> bool:
    """Whether validation.json is already of this step: a finished run that is resumed has nothing to do again."""
    try:
        return json.loads((folder / VALIDATION).read_text())["step"] == step
    except (OSError, ValueError, KeyError, TypeError):
        return False


def write_validation(folder: Path, found: Evaluation, classes: list[str], facts: dict[str, Any]) -> None:
    """evaluate.as_json and `facts` (step, split, best), atomically. Raises OSError."""
    path = folder / VALIDATION
    partial = path.with_name(path.name + ".partial")
    try:
        partial.write_text(json.dumps(facts | as_json(found, classes), indent=1) + "\n")
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def finish(
    folder: Path, found: Evaluation | None, classes: list[str], facts: dict[str, Any], world: Ranks, tracker: Tracker
) -> None:
    """Every rank calls it. found: of the last weights; None where validation.json stands already, or there is no split.

    Nothing here may fail a run whose training is done: what cannot be written costs one line.
    """
    if not world.is_main:
        return
    try:
        if found is not None:
            write_validation(folder, found, classes, facts)
    except OSError as error:
        tracker.say(f"warning: {folder / VALIDATION} could not be written ({error.strerror}); free some space.")
