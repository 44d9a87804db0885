"""Class names, palettes and id maps against the official facts; real samples to known pixel counts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ingest import writer
from ingest.datasets import ade20k, cityscapes, cocostuff, folder, voc
from ingest.pixels.labels import voc_palette
from ingest.scenes.layouts import ade20k as ade20k_layout
from ingest.scenes.layouts import cityscapes as cityscapes_layout
from ingest.scenes.layouts import cocostuff as cocostuff_layout
from ingest.scenes.layouts import voc as voc_layout
from ingest.scenes.layouts.coco_names import NAMES
from ingest.shards.manifest import load
from ingest.verify import verify

# cityscapesScripts, labels.py: id -> trainId of all labels with an id
CITYSCAPES = {
    0: 255, 1: 255, 2: 255, 3: 255, 4: 255, 5: 255, 6: 255, 7: 0, 8: 1, 9: 255, 10: 255, 11: 2, 12: 3, 13: 4,
    14: 255, 15: 255, 16: 255, 17: 5, 18: 255, 19: 6, 20: 7, 21: 8, 22: 9, 23: 10, 24: 11, 25: 12, 26: 13, 27: 14,
    28: 15, 29: 255, 30: 255, 31: 16, 32: 17, 33: 18,
}  # fmt: skip


def test_cityscapes():
    ids = cityscapes.label_map().ids
    assert {key: value for key, value in ids.items() if key != 255} == CITYSCAPES
    assert cityscapes.CLASSES[0] == "road" and cityscapes.CLASSES[13] == "car" and len(cityscapes.CLASSES) == 19
    assert cityscapes.TRAINED[26] == ("car", (0, 0, 142)) and cityscapes.TRAINED[33][1] == (119, 11, 32)


def test_ade20k():
    assert len(ade20k.CLASSES) == len(set(ade20k.CLASSES)) == len(ade20k.PALETTE) == 150
    assert [ade20k.CLASSES[index] for index in (0, 1, 2, 12, 20, 149)] == [
        "wall", "building", "sky", "person", "car", "flag",
    ]  # fmt: skip
    assert ade20k.PALETTE[0] == (120, 120, 120) and ade20k.PALETTE[2] == (6, 230, 230)
    ids = ade20k.label_map().ids
    assert ids[0] == 255 and ids[1] == 0 and ids[150] == 149 and 151 not in ids


def test_cocostuff():
    assert len(cocostuff.ALL) == len(set(cocostuff.ALL)) == 182
    absent = {cocostuff.ALL[number - 1] for number in cocostuff.ABSENT}
    assert absent == {
        "street sign", "hat", "shoe", "eye glasses", "plate", "mirror", "window", "desk", "door", "blender",
        "hair brush",
    }  # fmt: skip
    png171 = cocostuff.label_map(171, 0, 255).ids
    assert len(set(png171.values()) - {255}) == 171 and png171[255] == 255 and png171[0] == 0 and png171[181] == 170
    assert not {11, 25, 28, 29, 44, 65, 67, 68, 70, 82, 90} & set(png171)
    assert png171[12] == 11  # stop sign moves up: street sign (11) never occurs
    mat182 = cocostuff.label_map(182, 1, 0).ids
    assert mat182[0] == 255 and mat182[1] == 0 and mat182[182] == 181


def test_name_tables_are_whole_and_agree():
    """The tables wrap within names: no run of blanks is left, and the drawn layout of COCO-Stuff has the same names."""
    assert cocostuff.ALL == NAMES
    for names in (cocostuff.ALL, ade20k.CLASSES, voc.CLASSES, cityscapes.CLASSES):
        assert all(name == " ".join(name.split()) and name for name in names)
    assert {"cell phone", "hair drier", "hot dog"} <= set(cocostuff.ALL)
    assert {"chest of drawers", "crt screen", "swimming pool"} <= set(ade20k.CLASSES)


def test_the_drawn_layouts_number_the_classes_as_the_datasets_do():
    """What a scene shows has the id of its own class in each layout's masks."""
    drawn_voc = {kind.name: voc.CLASSES[number] for kind, number in voc_layout.IDS.items()}
    assert drawn_voc == {
        "AEROPLANE": "aeroplane", "BICYCLE": "bicycle", "BIRD": "bird", "BUS": "bus", "CAR": "car", "VAN": "car",
        "CHAIR": "chair", "TABLE": "diningtable", "DOG": "dog", "MOTORCYCLE": "motorbike", "PERSON": "person",
        "RIDER": "person", "POT_PLANT": "pottedplant", "TRAM": "train",
    }  # fmt: skip
    drawn_ade = {kind.name: ade20k.CLASSES[number - 1] for kind, number in ade20k_layout.IDS.items()}
    other = {
        "PAVEMENT": "sidewalk", "RIDER": "person", "BUSH": "plant", "POT_PLANT": "plant", "SIGN": "signboard",
        "AEROPLANE": "airplane", "MOTORCYCLE": "minibike", "DOG": "animal", "BIRD": "animal", "BIN": "ashcan",
        "TRAFFIC_LIGHT": "traffic light",
    }  # fmt: skip
    assert drawn_ade == {kind: other.get(kind, kind.lower()) for kind in drawn_ade}
    for number, (name, color, _) in cityscapes_layout.LABELS.items():
        known = cityscapes.TRAINED.get(number)
        assert known == (name, color) if known else name in cityscapes.UNTRAINED
    assert set(cityscapes.TRAINED) - {27, 28, 31} <= set(cityscapes_layout.LABELS)
    assert set(cocostuff_layout.KINDS.values()) <= set(cocostuff.ALL)


def test_cocostuff_10k_of_version_1_0_maps_the_true_names(tmp_path: Path):
    """Its own numbering, "unlabeled" first: values become classes by name."""
    import scipy.io

    from ingest.sources.trees import Tree

    names = ["unlabeled", "cell phone", "hair drier", "person"]
    (tmp_path / "annotations").mkdir()
    cells = np.array(names, dtype=object).reshape(-1, 1)
    scipy.io.savemat(tmp_path / "annotations/a.mat", {"S": np.ones((2, 2), np.uint16), "names": cells})
    tree = Tree(tmp_path)
    ids = cocostuff._map_10k(182, tree, tree.index(r"annotations/([^/]+)\.mat")).ids
    wanted = {1: 255, 2: cocostuff.ALL.index("cell phone"), 3: cocostuff.ALL.index("hair drier"), 4: 0}
    assert {value: train for value, train in ids.items() if value} == wanted


def test_voc():
    assert len(voc.CLASSES) == 21 and voc.CLASSES[15] == "person"
    assert voc_palette(21)[1] == (128, 0, 0) and voc_palette(21)[15] == (192, 128, 128)
    assert voc_palette(256)[255] == (224, 224, 192)


def counts(raw, out: Path) -> dict[str, tuple[list[int], int]]:
    writer.write(raw, out, writer.Settings(shard_size=10**9, seed=0, command="", options={}))
    verify(out, deep=True)
    return {name: (split.class_pixels, split.ignored_pixels) for name, split in load(out).splits.items()}


@pytest.mark.realdata
def test_real_cityscapes(realdata: Path, tmp_path: Path):
    pixels, ignored = counts(cityscapes.find(realdata / "cityscapes"), tmp_path / "out")["train"]
    expected = np.zeros(256, np.int64)
    for path in (realdata / "cityscapes").rglob("*_labelIds.png"):
        for value, count in zip(*np.unique(np.asarray(Image.open(path)), return_counts=True), strict=True):
            expected[CITYSCAPES[int(value)]] += count
    assert pixels == expected[:19].tolist() and ignored == expected[255]
    assert sum(pixels) + ignored == 5 * 2048 * 1024


@pytest.mark.realdata
def test_real_ade20k(realdata: Path, tmp_path: Path):
    pixels, ignored = counts(ade20k.find(realdata / "ade20k"), tmp_path / "out")["val"]
    masks = [np.asarray(Image.open(path)) for path in (realdata / "ade20k").rglob("annotations/**/*.png")]
    expected = sum(np.bincount(mask.ravel(), minlength=151) for mask in masks)
    assert [ignored, *pixels] == expected.tolist()


@pytest.mark.realdata
def test_real_voc(realdata: Path, tmp_path: Path):
    pixels, ignored = counts(voc.find(realdata / "voc"), tmp_path / "out")["train"]
    masks = [np.asarray(Image.open(path)) for path in (realdata / "voc").rglob("SegmentationClass/*.png")]
    expected = sum(np.bincount(mask.ravel(), minlength=256) for mask in masks)
    assert pixels == expected[:21].tolist() and ignored == expected[255]


@pytest.mark.realdata
@pytest.mark.slow
def test_real_camvid(realdata: Path, tmp_path: Path):
    found = counts(folder.find(realdata / "camvid", folder.load_spec("camvid")), tmp_path / "out")
    facts = load(tmp_path / "out")
    assert (facts.splits["train"].samples, facts.splits["val"].samples) == (367, 101)
    pixels, ignored = found["train"]
    assert sum(pixels) + ignored == 367 * 360 * 480
    assert (pixels[3], ignored) == (20076880, 2503995)  # road, void
