"""What a dataset's adapter hands to the writer: the facts of the task, and which files make which sample."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ingest.errors import UserError, nearest
from ingest.labels import Color, LabelMap
from ingest.manifest import Skipped
from ingest.sources import Source


@dataclass(frozen=True)
class Pair:
    """An image and its label as they lie in the raw dataset."""

    image: Source
    label: Source | None


@dataclass(frozen=True)
class RawDataset:
    """A raw dataset, found and paired; nothing decoded yet."""

    name: str
    classes: list[str]
    palette: list[Color]
    labels: LabelMap
    splits: dict[str, list[Pair]]
    skipped: dict[str, list[Skipped]] = field(default_factory=dict)
    expected: dict[str, int] = field(default_factory=dict)  # official sample counts, where the splits have them


def choose_splits(wanted: Sequence[str], available: Sequence[str], default: Sequence[str] | None = None) -> list[str]:
    """The wanted splits, or the default ones. UserError on an unknown name lists the others."""
    for name in wanted:
        if name not in available:
            raise UserError(f"no split {name!r} here{nearest(name, available)}")
    return list(dict.fromkeys(wanted)) or list(available if default is None else default)
