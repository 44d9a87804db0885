"""PASCAL VOC 2012 segmentation (VOC devkit): 20 classes and background; palette masks, 255 = object border.

And its augmented training set (SBD, Hariharan et al., ICCV 2011), as index PNGs or in SBD's own .mat files.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ingest.datasets.guess import not_found
from ingest.errors import UserError
from ingest.pixels.labels import identity, voc_palette
from ingest.sources.raw import Pair, RawDataset, choose_splits, pair_up
from ingest.sources.trees import Tree

NAME = "voc"
CLASSES = [
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
]  # fmt: skip
EXPECTED = {
    "train": 1464, "val": 1449, "trainval": 2913, "test": 1456,
    "train_aug": 10582, "val_aug": 1449, "trainval_aug": 12031, "test_aug": 1456,
}  # fmt: skip
MASKS = {
    "voc": r"SegmentationClass/([^/]+)\.png",
    "aug": r"SegmentationClassAug/([^/]+)\.png",
    "sbd": r"cls/([^/]+)\.mat",
}


def find(src: Path, splits: Sequence[str] = (), labels: str | None = None, skip_bad: bool = False) -> RawDataset:
    """Pairs the files of the lists `<split>.txt` (bare ids) and `<split>_aug.txt` (ids, or pairs of paths).

    `src` holds, at any depth or in archives, JPEGImages, SegmentationClass and ImageSets/Segmentation. `labels` says
    where the masks of train_aug come from: `aug` (SegmentationClassAug) or `sbd` (cls/*.mat, but
    VOC's own finer masks where there are any). By default the splits are train, val and test; with `labels` aug or
    sbd train_aug, val and test.
    Without a train_aug list, SBD's images less VOC's val make it.
    """
    tree = Tree(src)
    images = _by_stem(tree, r"(?:VOC2012/)?JPEGImages/([^/]+)\.jpg")
    lists = _by_stem(tree, r"(?:ImageSets/Segmentation/)?((?:train|val|trainval|test)(?:_aug)?)\.txt")
    lists = {split: name for split, name in lists.items() if split.endswith("_aug") or "ImageSets/Segm" in name}
    if not images or not lists:
        raise not_found(tree, NAME, "JPEGImages/*.jpg and ImageSets/Segmentation/*.txt")
    years = {year for hit in tree.find(r"VOC(20\d\d)/JPEGImages/[^/]+") for year in hit.groups}
    if len(years) > 1:
        raise UserError(f"{src} holds VOC {' and '.join(sorted(years))}: give the folder VOCdevkit/VOC2012 alone")
    masks = {kind: _by_stem(tree, regex) for kind, regex in MASKS.items()}
    if labels in ("aug", "sbd") and not masks[labels]:
        raise UserError(f"--labels {labels}: no {MASKS[labels]} below {src}: unpack or add its archive")
    ids = {split: _ids(tree, lists[split]) for split in EXPECTED if split in lists}
    if "train_aug" not in ids and masks["sbd"]:
        held_out = set(ids.get("val", ()))
        ids["train_aug"] = sorted((set(masks["sbd"]) | set(ids.get("train", ()))) - held_out)
    default = ("train_aug" if labels in ("aug", "sbd") else "train", "val", "test")
    chosen = choose_splits(splits, list(ids), [split for split in default if split in ids])
    paired: dict[str, list[Pair]] = {}
    skipped = {}
    for split in chosen:
        kind = "voc" if not split.endswith("_aug") else (labels or ("aug" if masks["aug"] else "sbd"))
        truth = (
            None
            if split.startswith("test")
            else (masks["sbd"] | masks["voc"] if kind == "sbd" else masks["voc"] | masks[kind])
        )
        mine = {}
        for stem in ids[split]:
            if stem not in images:
                raise UserError(
                    f"JPEGImages/{stem}.jpg is missing, the list of {split} has it: unpack the archive again"
                )
            mine[stem] = images[stem]
        paired[split], skipped[split] = pair_up(tree, mine, truth, MASKS[kind].split("/")[0], skip_bad)
    expected = {split: EXPECTED[split] for split in chosen}
    name = NAME if not any(split.endswith("_aug") for split in chosen) else f"{NAME}_aug"
    options = {"labels": labels or ("voc" if name == NAME else "aug")}
    count = len(CLASSES)
    return RawDataset(name, CLASSES, voc_palette(count), identity(count), paired, skipped, expected, options)


def _by_stem(tree: Tree, regex: str) -> dict[str, str]:
    return {groups[0]: name for groups, name in tree.index(regex).items()}


def _ids(tree: Tree, name: str) -> list[str]:
    """A list's image ids: bare, or `/JPEGImages/x.jpg /SegmentationClassAug/x.png`."""
    return [
        line.split()[0].rsplit("/", 1)[-1].removesuffix(".jpg") for line in tree.text(name).splitlines() if line.strip()
    ]
