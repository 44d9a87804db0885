"""PASCAL VOC 2012 segmentation (VOC devkit): 20 classes and background; palette masks, 255 = object border."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ingest.errors import UserError
from ingest.labels import identity, voc_palette
from ingest.raw import Pair, RawDataset, choose_splits
from ingest.sources import Tree

NAME = "voc"
CLASSES = [
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
]  # fmt: skip
EXPECTED = {"train": 1464, "val": 1449, "trainval": 2913, "test": 1456}
LISTS = "ImageSets/Segmentation"


def find(src: Path, splits: Sequence[str] = ()) -> RawDataset:
    """Pairs the files of the list files `ImageSets/Segmentation/<split>.txt`.

    `src` holds, at any depth, JPEGImages, SegmentationClass and ImageSets: VOC2012, VOCdevkit, or a folder above. By
    default the splits are those of train, val and test that are there; trainval is their union, on demand.
    """
    tree = Tree(src)
    roots = tree.roots("JPEGImages", LISTS)
    if not roots:
        raise UserError(
            f"{src} is no VOC2012: looked for JPEGImages/ and {LISTS}/, found {tree.describe()}; "
            "give VOCdevkit/VOC2012 or a folder above it"
        )
    if len(roots) > 1:
        raise UserError(f"{src} holds {len(roots)} VOC years ({', '.join(roots)}): give the folder of one of them")
    root = roots[0]
    available = [name for name in EXPECTED if f"{root}{LISTS}/{name}.txt" in tree]
    chosen = choose_splits(splits, available, [name for name in available if name != "trainval"])
    return RawDataset(
        NAME,
        CLASSES,
        voc_palette(len(CLASSES)),
        identity(len(CLASSES)),
        {name: _pair(tree, root, name) for name in chosen},
        expected={name: EXPECTED[name] for name in chosen},
    )


def _pair(tree: Tree, root: str, split: str) -> list[Pair]:
    listed = f"{root}{LISTS}/{split}.txt"
    pairs = []
    for stem in tree.source(listed).read().decode().split():
        image, label = f"{root}JPEGImages/{stem}.jpg", f"{root}SegmentationClass/{stem}.png"
        if image not in tree:
            raise UserError(f"{image} is missing, {listed} lists it: unpack the archive again")
        if split != "test" and label not in tree:
            raise UserError(f"{label} is missing, {listed} lists it: unpack the archive again")
        pairs.append(Pair(tree.source(image), None if split == "test" else tree.source(label)))
    return pairs
