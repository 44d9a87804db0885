"""What a finished run leaves beside its checkpoints: validation.json, the best and worst images, report.html."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ingest.errors import message
from ingest.shards import atomic
from train.distributed import Ranks
from train.evaluate.evaluation import Evaluation
from train.evaluate.extremes import Extremes
from train.evaluate.tables import as_json
from train.log.tracking import Tracker
from train.report import build as report

VALIDATION = "validation.json"


@dataclass(frozen=True)
class Results:
    """What the last validation found."""

    found: Evaluation | None
    """Of the last weights; None where validation.json holds it already, or there is no split."""
    extremes: Extremes | None
    """Of the same."""
    facts: dict[str, Any]
    """For validation.json: step, split, best."""
    classes: list[str]


def validated(folder: Path, step: int) -> bool:
    """Whether validation.json is already of this step: a finished run that is resumed has nothing to do again."""
    try:
        return json.loads((folder / VALIDATION).read_text())["step"] == step
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return False


def finish(folder: Path, results: Results, ranks: Ranks, tracker: Tracker) -> None:
    """Writes what the last validation found, and the report. Every rank calls it.

    Nothing here may fail a run whose training is done: what cannot be written costs one line.
    """

    def attempt(what: str, write: Callable[[], Any]) -> None:
        try:
            write()
        except Exception as error:  # not one of them is worth the run
            reason = message(error)
            tracker.say(f"warning: {folder / what} was not written ({reason}); the training is complete")
            tracker.event(results.facts["step"], what="not written", file=what, error=reason)

    if results.found is not None and ranks.is_main:
        content = results.facts | as_json(results.found, results.classes)
        attempt(VALIDATION, partial(atomic.write_json, folder / VALIDATION, content))
    if results.extremes is not None:
        attempt("extremes", partial(results.extremes.save, folder, ranks))
    if ranks.is_main:
        attempt(report.FILE, partial(report.write, folder))
