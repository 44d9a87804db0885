"""What looking at a folder comes to."""

from __future__ import annotations

from dataclasses import dataclass, field

from ingest.inspect.meaning import Meaning


@dataclass
class Split:
    """Of the spec."""

    name: str
    images: str
    labels: str | None
    list: str | None = None
    alone: bool = False  # images without labels, beside splits that have some


@dataclass
class Draft:
    """A spec to be looked through, and what led to it."""

    name: str
    meaning: Meaning
    splits: list[Split]
    whole: Split | None = None  # what is dealt to train and val by share
    group: str = ""  # what stays together then
    form: str = ""  # the text of `labels` where annotation files hold shapes
    bands: list[int] = field(default_factory=list)
    deep: bool = False  # more than 8 bits: percentiles
    notes: list[str] = field(default_factory=list)
    doubts: list[str] = field(default_factory=list)
    examples: list[tuple[str, str]] = field(default_factory=list)
