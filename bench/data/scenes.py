"""Procedural scenes as shards, in the sizes that people train on, for a bench without data of one's own."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from pipeline.augment import Augment


@dataclass(frozen=True)
class Size:
    """One kind of dataset."""

    title: str
    layout: str
    options: tuple[str, ...]
    """Of `ingest scenes`."""
    ingest: tuple[str, ...]
    """Options of the ingest."""
    augment: Augment
    real: str
    """What real files of the kind weigh, to compare the scenes with."""


_CITYSCAPES = ("--train", "24", "--val", "1", "--test", "0", "--size", "1024x2048")
_STREET = Augment(crop=(768, 768), base_size=1024)
SIZES = {
    "voc": Size(
        "VOC size, JPEG",
        "folder",
        ("--train", "64", "--val", "1", "--size", "375x500"),
        (),
        Augment(crop=(380, 380), base_size=400),
        "two real VOC images: 38 kB, labels 3 kB",
    ),
    "cityscapes-jpeg": Size(
        "Cityscapes size, JPEG q95",
        "cityscapes",
        _CITYSCAPES,
        ("--image-format", "jpeg:95"),
        _STREET,
        "five real Cityscapes images: 554 kB, labels 15 kB",
    ),
    "cityscapes-png": Size(
        "Cityscapes size, PNG",
        "cityscapes",
        _CITYSCAPES,
        (),
        _STREET,
        "five real Cityscapes images: 2167 kB, labels 15 kB",
    ),
    "cityscapes-repacked": Size(
        "Cityscapes size, PNG repacked by --image-format png",
        "cityscapes",
        _CITYSCAPES,
        ("--image-format", "png"),
        _STREET,
        "",
    ),
}
DEFAULT = ("voc", "cityscapes-jpeg", "cityscapes-png")


def make(size: str, scratch: Path) -> Path:
    """The shard folder of that size below `scratch`: made there, or found from an earlier run."""
    chosen = SIZES[size]
    raw, shards = scratch / f"raw-{chosen.layout}", scratch / size
    if (shards / "dataset.json").is_file():
        return shards
    if not raw.exists():
        _ingest("scenes", str(raw), "--layout", chosen.layout, *chosen.options)
    spec = ("--spec", str(raw / "dataset.yaml")) if chosen.layout == "folder" else ()
    _ingest(chosen.layout, str(raw), *spec, *chosen.ingest, "--split", "train", "--out", str(shards))
    return shards


def _ingest(*arguments: str) -> None:
    done = subprocess.run([sys.executable, "-m", "ingest", *arguments], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"python -m ingest {' '.join(arguments)} failed:\n{done.stderr[-2000:]}")
