"""What is measured while an evaluation passes by, and what is written of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
import torch

from ingest.shards import atomic, pictures
from ingest.shards.reader import ShardSet
from train.distributed import Ranks
from train.evaluate import page
from train.evaluate.boundary import Boundary, Width
from train.evaluate.calibration import Calibration
from train.evaluate.evaluation import Evaluation, Observer
from train.evaluate.extremes import Extremes
from train.evaluate.findings import Findings
from train.evaluate.metrics import MeanOver, scores
from train.evaluate.per_image import PerImage
from train.evaluate.showcase import Showcase
from train.evaluate.tables import Extras, as_json, table


@dataclass(frozen=True)
class Wanted:
    """What is asked for beside the table."""

    mean_over: MeanOver = "union"
    boundary: Width | None = None
    json: Path | None = None
    report: Path | None = None
    sheet: Path | None = None
    count: int = 8
    """Images on the sheet."""


class Measures:
    """The observers of an evaluation. Every rank holds one, and calls `tell` after it."""

    def __init__(self, shards: ShardSet, ranks: Ranks, wanted: Wanted, others: Sequence[Observer] = ()) -> None:
        """others: observers to be shown every batch as well."""
        self._shards, self._ranks, self._wanted, self._others = shards, ranks, wanted, others
        classes = shards.manifest.num_classes
        self._per_image, self._calibration = PerImage(classes), Calibration(ranks.device)
        self._boundary = Boundary(classes, wanted.boundary) if wanted.boundary else None
        self._showcase = Showcase(shards, wanted.count) if wanted.sheet else None
        self._extremes = Extremes(shards, 4) if wanted.report else None
        self._findings = Findings() if wanted.report else None

    @property
    def observers(self) -> list[Observer]:
        """To be shown every batch."""
        every = (
            self._per_image, self._calibration, self._boundary, self._showcase, self._extremes, self._findings
        )  # fmt: skip
        return [*(observer for observer in every if observer is not None), *self._others]

    def tell(self, found: Evaluation, facts: dict[str, Any]) -> None:
        """Prints the table and writes what was asked for. facts: of the checkpoint and the split, for the files."""
        wanted, ranks, classes = self._wanted, self._ranks, self._shards.manifest.classes
        found = replace(found, scores=scores(torch.tensor(found.scores.matrix), wanted.mean_over))
        extras = Extras(
            self._per_image.intervals(ranks, wanted.mean_over),
            self._calibration.result(ranks),
            self._boundary.result(ranks) if self._boundary else None,
        )
        picture = self._showcase.sheet(ranks) if self._showcase else None
        written = as_json(found, classes, extras)
        if wanted.report and self._extremes and self._findings:
            noticed = page.Noticed(self._extremes, self._findings.pairs(ranks), self._findings.suspects(ranks))
            page.write(wanted.report, (self._shards.manifest, ranks), written, facts, noticed)
        if not ranks.is_main:
            return
        click.echo(table(found, classes, extras))
        if wanted.json:
            wanted.json.parent.mkdir(parents=True, exist_ok=True)
            atomic.write_json(wanted.json, facts | {"mean_over": wanted.mean_over} | written)
        if wanted.sheet and picture is not None:
            wanted.sheet.parent.mkdir(parents=True, exist_ok=True)
            pictures.save(picture, wanted.sheet, "--sheet")
        for path in (wanted.json, wanted.sheet, wanted.report):
            if path:
                click.echo(str(path), err=True)
