"""What a finished run leaves beside its checkpoints: validation.json, the best and worst images, report.html."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from ingest.shards import atomic
from train.distributed import Ranks
from train.evaluate.evaluation import Evaluation
from train.evaluate.extremes import Extremes
from train.evaluate.tables import as_json
from train.log.tracking import Tracker
from train.report import build as report

VALIDATION = "validation.json"


def validated(folder: Path, step: int) -> bool:
    """Whether validation.json is already of this step: a finished run that is resumed has nothing to do again."""
    try:
        return json.loads((folder / VALIDATION).read_text())["step"] == step
    except (OSError, ValueError, KeyError, TypeError):
        return False


def write_validation(folder: Path, found: Evaluation, classes: list[str], facts: dict[str, Any]) -> None:
    """as_json and `facts` (step, split, best), atomically. Raises OSError."""
    atomic.write_json(folder / VALIDATION, facts | as_json(found, classes))


def finish(
    folder: Path,
    found: Evaluation | None,
    extremes: Extremes | None,
    facts: dict[str, Any],
    classes: list[str],
    ranks: Ranks,
    tracker: Tracker,
) -> None:
    """Writes what the last validation found, and the report. Every rank calls it.

    found and extremes: of the last weights; None where they stand there already, or there is no split. Nothing here
    may fail a run whose training is done: what cannot be written costs one line.
    """

    def attempt(what: str, write: Callable[[], Any]) -> None:
        try:
            write()
        except Exception as error:  # not one of them is worth the run
            reason = " ".join(str(error).split()) or type(error).__name__
            tracker.say(f"warning: {folder / what} was not written ({reason}); the training is complete")
            tracker.event(facts["step"], what="not written", file=what, error=reason)

    if found is not None and ranks.is_main:
        attempt(VALIDATION, partial(write_validation, folder, found, classes, facts))
    if extremes is not None:
        attempt("extremes", partial(extremes.save, folder, ranks))
    if ranks.is_main:
        attempt(report.FILE, partial(report.write, folder))
