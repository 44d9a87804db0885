"""Cityscapes (cityscapesScripts, helpers/labels.py): 19 training classes of 34 label ids, fine or coarse."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from ingest.datasets.guess import not_found
from ingest.errors import UserError
from ingest.forms import cityscapes_polygons
from ingest.forms.annotated import Label
from ingest.pixels.labels import Color, LabelMap
from ingest.pixels.polygons import Rules
from ingest.shards.manifest import IGNORE
from ingest.sources.archives import Source
from ingest.sources.raw import Pair, RawDataset, choose_splits, pair_up
from ingest.sources.trees import Tree

NAME = "cityscapes"
# label id -> (name, color) of the classes that are trained, in the order of their train ids
TRAINED: dict[int, tuple[str, Color]] = {
    7: ("road", (128, 64, 128)),
    8: ("sidewalk", (244, 35, 232)),
    11: ("building", (70, 70, 70)),
    12: ("wall", (102, 102, 156)),
    13: ("fence", (190, 153, 153)),
    17: ("pole", (153, 153, 153)),
    19: ("traffic light", (250, 170, 30)),
    20: ("traffic sign", (220, 220, 0)),
    21: ("vegetation", (107, 142, 35)),
    22: ("terrain", (152, 251, 152)),
    23: ("sky", (70, 130, 180)),
    24: ("person", (220, 20, 60)),
    25: ("rider", (255, 0, 0)),
    26: ("car", (0, 0, 142)),
    27: ("truck", (0, 0, 70)),
    28: ("bus", (0, 60, 100)),
    31: ("train", (0, 80, 100)),
    32: ("motorcycle", (0, 0, 230)),
    33: ("bicycle", (119, 11, 32)),
}
# the other labels' names (helpers/labels.py), of which one stands for license plates and is never drawn
UNTRAINED = (
    "unlabeled", "ego vehicle", "rectification border", "out of roi", "static", "dynamic", "ground", "parking",
    "rail track", "guard rail", "bridge", "tunnel", "polegroup", "caravan", "trailer",
)  # fmt: skip
IDS = 34  # 0..33; the 35th label, license plate (-1), is never drawn in labelIds masks
CLASSES = [name for name, _ in TRAINED.values()]
EXPECTED = {"train": 2975, "val": 500, "test": 1525, "train_extra": 19998}
LABELS = {"fine": "gtFine", "coarse": "gtCoarse"}


def label_map() -> LabelMap:
    """Label ids to train ids; what is not trained is ignored."""
    trained = {label: train for train, label in enumerate(TRAINED)}
    return LabelMap({label: trained.get(label, IGNORE) for label in range(IDS)} | {IGNORE: IGNORE}, {})


def _masks(tree: Tree, folder: str) -> dict[tuple[str, ...], str]:
    """{(split, stem): file} of masks, or of polygons where there are no masks."""
    path = rf"{folder}/(train|val|train_extra)/[^/]+/([^/]+)_{folder}"
    return tree.index(rf"{path}_labelIds\.png") or tree.index(rf"{path}_polygons\.json")


def polygon_rules() -> Rules:
    """How the 35 labels' names become train ids. `cargroup` counts as `car`; a license plate is part of its car."""
    names = [*(name for name, _ in TRAINED.values()), *UNTRAINED]
    ids = {name: train if train < len(TRAINED) else IGNORE for train, name in enumerate(names)}
    groups = {f"{name}group": train for name, train in ids.items()}
    return Rules(groups | ids, IGNORE, omit=("license plate",))


def _drawn(pair: Pair) -> Pair:
    """The pair with a label that is drawn, where it is a polygon file."""
    if not isinstance(pair.label, Source) or not pair.label.name.endswith(".json"):
        return pair
    label = Label(pair.label.name, pair.label.size, cityscapes_polygons.FORM.name, pair.label, polygon_rules())
    return dataclasses.replace(pair, label=label)


def find(src: Path, splits: Sequence[str] = (), labels: str | None = None, skip_bad: bool = False) -> RawDataset:
    """Pairs `leftImg8bit/<split>/<city>/<stem>_leftImg8bit.png` with `<gt>/<split>/<city>/<stem>_<gt>_labelIds.png`.

    Both may lie anywhere below `src`: a merged root, one folder a zip, or in the zips. `labels` is fine or coarse; by
    default fine where there is any. The test split's masks are dummies and are left out. Where there are no such masks,
    the polygons that they are drawn from (`..._polygons.json`) are drawn here.
    """
    tree = Tree(src)
    images = tree.index(r"leftImg8bit/(train|val|test|train_extra)/[^/]+/([^/]+)_leftImg8bit\.png")
    masks = {kind: _masks(tree, folder) for kind, folder in LABELS.items()}
    kind = labels or ("fine" if masks["fine"] or not masks["coarse"] else "coarse")
    if not images:
        raise not_found(tree, NAME, "leftImg8bit/{train,val,test}/<city>/*_leftImg8bit.png")
    if labels and not masks[labels]:
        raise UserError(f"--labels {labels}: no {LABELS[labels]}/ masks below {src}: add {LABELS[labels]}'s archive")
    available = [split for split in EXPECTED if any(of == split for of, _ in images)]
    # fine masks exist for train and val alone; coarse ones for train_extra too
    default = [split for split in available if split == "test" or any(of == split for of, _ in masks[kind])]
    chosen = choose_splits(splits, available, default)
    if not chosen:
        raise UserError(
            f"no labeled images below {src}: add the archive {LABELS[kind]}_trainvaltest.zip or gtCoarse.zip"
        )
    paired: dict[str, list[Pair]] = {}
    skipped = {}
    for split in chosen:
        mine = {stem: name for (of, stem), name in images.items() if of == split}
        truth = None if split == "test" else {stem: name for (of, stem), name in masks[kind].items() if of == split}
        pairs, skipped[split] = pair_up(tree, mine, truth, f"{LABELS[kind]}/{split}", skip_bad)
        paired[split] = [_drawn(pair) for pair in pairs]
    name = NAME if kind == "fine" else f"{NAME}_coarse"
    palette = [color for _, color in TRAINED.values()]
    expected = {split: EXPECTED[split] for split in chosen}
    return RawDataset(name, CLASSES, palette, label_map(), paired, skipped, expected, {"labels": kind})
