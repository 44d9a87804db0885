"""Parameters and multiply-adds of our nets beside published ones (nets.yaml)."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

import nets
from nets.measure import measure

FILE = Path(__file__).parent / "nets.yaml"


@dataclass(frozen=True)
class Stands:
    """A net and what is published of it."""

    net: str
    classes: int
    size: tuple[int, int]
    """Height and width of the input."""
    options: dict[str, Any] = field(default_factory=dict)
    source: str = ""
    """Empty: no published figure is known."""
    parameters: float | None = None
    """Published, millions."""
    macs: float | None = None
    """Published multiply-adds, 10^9."""
    note: str = ""

    @property
    def key(self) -> str:
        """Names the count among others."""
        options = ", ".join(f"{key} {str(value).lower()}" for key, value in self.options.items())
        return f"{self.net}{f' ({options})' if options else ''}, {self.classes} classes, {self.size[0]}x{self.size[1]}"


def load() -> list[Stands]:
    """All of nets.yaml."""
    return [Stands(**{**entry, "size": tuple(entry["size"])}) for entry in yaml.safe_load(FILE.read_text())]


def count(one: Stands) -> dict[str, float]:
    """Ours: `parameters` in millions, `macs` of one image in 10^9, both in eval mode and without pixels."""
    cost, _ = measure(functools.partial(nets.build, one.net, one.classes, **one.options), one.size)
    return {"parameters": round(cost.parameters / 1e6, 3), "macs": round(cost.macs / 1e9, 2)}
