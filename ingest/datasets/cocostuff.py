"""COCO-Stuff (Caesar et al., CVPR 2018): the 164k release of PNG masks and the 10k release of .mat files.

Of the 182 ids 11 never occur. 171 classes are the others in order; 182 are the outputs of
yassouali/pytorch-segmentation, 11 of them never trained.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ingest.datasets.cocostuff_names import NAMES
from ingest.datasets.guess import not_found
from ingest.errors import UserError
from ingest.pixels.labels import LabelMap, voc_palette
from ingest.pixels.matfile import read_mat, strings
from ingest.shards.manifest import IGNORE, Skipped
from ingest.sources.raw import Pair, RawDataset, choose_splits, pair_up
from ingest.sources.trees import Tree

NAME = "cocostuff"
Names = dict[tuple[str, ...], str]  # groups of a pattern -> file
Chosen = tuple[list[str], dict[str, list[Pair]], dict[str, list[Skipped]]]
ALL = [" ".join(name.split()) for name in NAMES.split(",")]  # of the ids 1..182; the table wraps within names
ABSENT = (12, 26, 29, 30, 45, 66, 68, 69, 71, 83, 91)  # ids, 1..182, that no image holds
EXPECTED = {"164k": {"train": 118287, "val": 5000, "test": 40670}, "10k": {"train": 9000, "test": 1000, "all": 10000}}


def label_map(count: int, first: int, unlabeled: int) -> LabelMap:
    """Raw values to train ids, where id 1 is stored as `first` and no label as `unlabeled`."""
    kept = _kept(count)
    ids = {number - 1 + first: train for train, number in enumerate(kept)}
    return LabelMap({unlabeled: IGNORE} | ids, {})


def _kept(count: int) -> list[int]:
    return [number for number in range(1, 183) if count == 182 or number not in ABSENT]


def find(
    src: Path, splits: Sequence[str] = (), version: str | None = None, classes: int = 171, skip_bad: bool = False
) -> RawDataset:
    """Finds either release; `version` is 164k or 10k, by default whichever is there."""
    tree = Tree(src)
    mats = tree.index(r"annotations/([^/]+)\.mat")
    images = tree.index(r"(train|val|test)2017/([^/]+)\.jpg")
    found = version or ("10k" if mats else "164k")
    if (found == "10k" and not mats) or (found == "164k" and not images):
        looked = "images/*.jpg, annotations/*.mat and imageLists/" if found == "10k" else "images/{train,val}2017/*.jpg"
        raise not_found(tree, NAME, looked)
    names = [ALL[number - 1] for number in _kept(classes)]
    whole = voc_palette(183)[1:]
    palette = [whole[number - 1] for number in _kept(classes)]
    if found == "10k":
        chosen, paired, skipped = _find_10k(tree, mats, splits, skip_bad)
        mapping = _map_10k(classes, tree, mats)
    else:
        chosen, paired, skipped = _find_164k(tree, images, splits, skip_bad)
        mapping = label_map(classes, 0, IGNORE)
    expected = {split: EXPECTED[found][split] for split in chosen}
    options = {"version": found, "classes": classes}
    name = NAME if found == "164k" else f"{NAME}10k"
    return RawDataset(name, names, palette, mapping, paired, skipped, expected, options)


def _find_164k(tree: Tree, images: Names, splits: Sequence[str], skip_bad: bool) -> Chosen:
    masks = tree.index(r"(train|val)2017/([^/]+)\.png")
    if masks and all("label" in stem.lower() and "trainid" in stem.lower() for _, stem in masks):
        raise UserError(
            f"{next(iter(masks.values()))} was made by another tool (train ids): give the original "
            "stuffthingmaps_trainval2017.zip, whose masks are named like the images"
        )
    available = [split for split in EXPECTED["164k"] if any(of == split for of, _ in images)]
    chosen = choose_splits(splits, available)
    paired, skipped = {}, {}
    for split in chosen:
        mine = {stem: name for (of, stem), name in images.items() if of == split}
        truth = {stem: name for (of, stem), name in masks.items() if of == split} if split != "test" else None
        paired[split], skipped[split] = pair_up(tree, mine, truth, f"annotations/{split}2017", skip_bad)
    return chosen, paired, skipped


def _find_10k(tree: Tree, mats: Names, splits: Sequence[str], skip_bad: bool) -> Chosen:
    images = {groups[0]: name for groups, name in tree.index(r"images/([^/]+)\.jpg").items()}
    lists = {groups[0]: name for groups, name in tree.index(r"imageLists/(train|test|all)\.txt").items()}
    chosen = choose_splits(splits, list(lists), [split for split in ("train", "test") if split in lists])
    truth = {groups[0]: name for groups, name in mats.items()}
    paired: dict[str, list[Pair]] = {}
    skipped = {}
    for split in chosen:
        mine = {}
        for stem in tree.text(lists[split]).split():
            if stem not in images:
                raise UserError(f"images/{stem}.jpg is missing, {lists[split]} lists it: unpack the archive again")
            mine[stem] = images[stem]
        paired[split], skipped[split] = pair_up(tree, mine, truth, "annotations (.mat)", skip_bad)
    return chosen, paired, skipped


def _names(tree: Tree, mats: Names) -> list[str]:
    first = next(iter(mats.values()))
    source = tree.source(first)
    return strings(read_mat(source.read(), first), "names", first)


def _map_10k(count: int, tree: Tree, mats: Names) -> LabelMap:
    """v1.1 numbers the 182 names from 1, 0 = unlabeled; v1.0 its own names from 1, "unlabeled" first: ids by name."""
    if _names(tree, mats)[0] != "unlabeled":
        return label_map(count, 1, 0)
    wanted = [ALL[number - 1] for number in _kept(count)]
    ids = {0: IGNORE}
    for value, name in enumerate(_names(tree, mats), 1):
        if name == "unlabeled":
            ids[value] = IGNORE
        elif name in wanted:
            ids[value] = wanted.index(name)
        else:
            raise UserError(f"{next(iter(mats.values()))} names a class {name!r} that COCO-Stuff does not have")
    return LabelMap(ids, {})
