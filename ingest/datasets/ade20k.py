"""ADE20K scene parsing (SceneParsing toolkit, ADEChallengeData2016): 150 classes; masks hold 1..150, 0 = other."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ingest.datasets.ade20k_names import COLORS, NAMES
from ingest.datasets.guess import not_found
from ingest.pixels.labels import Color, LabelMap
from ingest.shards.manifest import IGNORE
from ingest.sources.raw import RawDataset, choose_splits, pair_up
from ingest.sources.trees import Tree

NAME = "ade20k"
CLASSES = [" ".join(name.split()) for name in NAMES.split(",")]
PALETTE: list[Color] = [(int(c[:2], 16), int(c[2:4], 16), int(c[4:], 16)) for c in COLORS.split()]
EXPECTED = {"train": 20210, "val": 2000, "test": 3352}
FOLDERS = {"training": "train", "validation": "val", "testing": "test"}


def label_map() -> LabelMap:
    """1..150 -> 0..149, 0 (other, not evaluated) -> 255."""
    return LabelMap({0: IGNORE} | {value: value - 1 for value in range(1, 151)}, {})


def find(src: Path, splits: Sequence[str] = (), skip_bad: bool = False) -> RawDataset:
    """Pairs `images/{training,validation}/*.jpg` with `annotations/...png`; `testing/*.jpg` has no masks."""
    tree = Tree(src)
    images = tree.index(r"images/(training|validation)/([^/]+)\.jpg")
    masks = tree.index(r"annotations/(training|validation)/([^/]+)\.png")
    images |= tree.index(r"(testing)/([^/]+)\.jpg")
    if not any(folder != "testing" for folder, _ in images):
        raise not_found(tree, NAME, "images/{training,validation}/*.jpg and annotations/{training,validation}/*.png")
    available = [split for folder, split in FOLDERS.items() if any(of == folder for of, _ in images)]
    chosen = choose_splits(splits, available)
    paired, skipped = {}, {}
    for folder, split in FOLDERS.items():
        if split in chosen:
            mine = {stem: name for (of, stem), name in images.items() if of == folder}
            truth = {stem: name for (of, stem), name in masks.items() if of == folder} if split != "test" else None
            paired[split], skipped[split] = pair_up(tree, mine, truth, f"annotations/{folder}", skip_bad)
    expected = {split: EXPECTED[split] for split in chosen}
    return RawDataset(NAME, CLASSES, PALETTE, label_map(), paired, skipped, expected)
