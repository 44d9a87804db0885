"""Twins: each official layout's paths, ids, lists, quirks and archives."""

from __future__ import annotations

import io
import json
import tarfile
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from PIL import Image

from ingest.scenes import quirks, write
from ingest.scenes.layouts import LAYOUTS, cityscapes, cocostuff
from ingest.scenes.layouts.coco_names import NAMES

SIZE = (64, 96)
# official facts, from the datasets' own tools
COCO_ABSENT = {11, 25, 28, 29, 44, 65, 67, 68, 70, 82, 90}  # raw values that no COCO image has
CITYSCAPES_TRAINED = {7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33}


COUNTS = {"train": 6, "val": 2, "test": 1, "extra": 2}


@cache
def _drawn(base: Path, layout: str, archives: bool) -> Path:
    counts = {split: COUNTS[split] for split in LAYOUTS[layout].splits}
    return write(base / f"{layout}-{archives}", layout, counts, SIZE, workers=1, archives=archives)


@pytest.fixture(scope="session")
def twin(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """twin(layout, archives=False) -> a small twin, drawn once for all tests, which must leave it as it is."""
    base = tmp_path_factory.mktemp("twins")
    return lambda layout, archives=False: _drawn(base, layout, archives)


def names(folder: Path, pattern: str) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.glob(pattern))


def mask(path: Path, mode: str = "L") -> np.ndarray:
    with Image.open(path) as image:
        assert image.mode == mode
        return np.asarray(image)


def upright(path: Path) -> tuple[int, int]:
    """Height and width as a viewer shows it."""
    with Image.open(path) as image:
        turned = image.getexif().get(0x0112, 1) == 6
        return (image.width, image.height) if turned else (image.height, image.width)


def test_voc(twin: Callable[..., Path]):
    root = twin("voc") / "VOCdevkit/VOC2012"
    lists = {path.stem: path.read_text().split() for path in (root / "ImageSets/Segmentation").iterdir()}
    assert set(lists) == {"train", "val", "trainval", "test"}
    assert sorted(lists["train"] + lists["val"]) == lists["trainval"]
    assert names(root, "JPEGImages/*") == sorted(f"JPEGImages/{i}.jpg" for i in lists["trainval"] + lists["test"])
    assert names(root, "SegmentationClass/*") == [f"SegmentationClass/{i}.png" for i in lists["trainval"]]
    seen = set()
    for name in lists["trainval"]:
        ids = mask(root / f"SegmentationClass/{name}.png", "P")
        assert ids.shape == upright(root / f"JPEGImages/{name}.jpg")
        seen |= set(np.unique(ids).tolist())
    assert {0, 7, 15, 255} <= seen <= {*range(21), 255}
    with Image.open(root / f"SegmentationClass/{name}.png") as image:
        palette = image.getpalette()
    assert palette[:9] == [0, 0, 0, 128, 0, 0, 0, 128, 0]
    assert palette[15 * 3 : 16 * 3] == [192, 128, 128]
    assert palette[255 * 3 :] == [224, 224, 192]


def test_voc_borders_lie_between_objects_and_background(tmp_path: Path):
    root = write(tmp_path / "voc", "voc", {"train": 1, "val": 0}, (300, 400), workers=1) / "VOCdevkit/VOC2012"
    ids = mask(root / "SegmentationClass/2007_000001.png", "P")
    objects = (ids > 0) & (ids < 255)
    touching = objects[:, 1:] & (ids[:, :-1] == 0) | objects[:, :-1] & (ids[:, 1:] == 0)
    assert objects.any()
    assert not touching.any()


def test_voc_aug(twin: Callable[..., Path]):
    root = twin("voc_aug") / "VOCdevkit/VOC2012"
    train = (root / "ImageSets/Segmentation/train_aug.txt").read_text().splitlines()
    assert len(train) == 8
    plain = (root / "ImageSets/Segmentation/train.txt").read_text().split()
    val = (root / "ImageSets/Segmentation/val_aug.txt").read_text().splitlines()
    assert not set(train) & set(val)
    for line in train + val:
        image, label = line.split()
        assert image.startswith("/JPEGImages/") and label.startswith("/SegmentationClassAug/")
        assert mask(root / label[1:]).shape == upright(root / image[1:])
    assert {line.split()[0][len("/JPEGImages/") : -len(".jpg")] for line in train} > set(plain)


def test_voc_sbd(twin: Callable[..., Path]):
    folder = twin("voc_sbd")
    sbd, lists = folder / "benchmark_RELEASE/dataset", folder / "VOCdevkit/VOC2012/ImageSets/Segmentation"
    val = set((lists / "val.txt").read_text().split())
    assert val & set((sbd / "train.txt").read_text().split()), "as the real one: SBD's own lists overlap VOC's val"
    assert not val & set((lists / "train_aug.txt").read_text().split())
    for path in sorted((sbd / "cls").iterdir()):
        truth = scipy.io.loadmat(path, squeeze_me=True, struct_as_record=False)["GTcls"]
        assert truth.Segmentation.dtype == np.uint8
        assert truth.Segmentation.shape == upright(sbd / f"img/{path.stem}.jpg")
        assert truth.Segmentation.max() <= 20
        present = set(np.atleast_1d(truth.CategoriesPresent).tolist())
        assert present == set(np.unique(truth.Segmentation).tolist()) - {0}


@pytest.mark.parametrize(
    ("layout", "kind", "splits"),
    [
        ("cityscapes", "gtFine", {"train", "val", "test"}),
        ("cityscapes_coarse", "gtCoarse", {"train", "val", "train_extra"}),
    ],
)
def test_cityscapes(twin: Callable[..., Path], layout: str, kind: str, splits: set[str]):
    folder = twin(layout)
    assert {path.name for path in (folder / "leftImg8bit").iterdir()} == splits
    images = names(folder, "leftImg8bit/*/*/*.png")
    assert len(images) == sum(COUNTS[split] for split in LAYOUTS[layout].splits)
    seen = set()
    for name in images:
        _, split, city, file = name.split("/")
        assert file.startswith(f"{city}_") and file.endswith("_leftImg8bit.png")
        stem = file[: -len("_leftImg8bit.png")]
        base = f"{kind}/{split}/{city}/{stem}_{kind}"
        ids = mask(folder / f"{base}_labelIds.png")
        with Image.open(folder / name) as image:
            assert (image.mode, image.size) == ("RGB", (SIZE[1], SIZE[0]))
        instances = mask(folder / f"{base}_instanceIds.png", "I;16")
        assert np.array_equal(np.where(instances >= 1000, instances // 1000, instances), ids)
        assert json.loads((folder / f"{base}_polygons.json").read_text())["imgWidth"] == SIZE[1]
        found = set(np.unique(ids).tolist())
        if split == "test":
            assert found <= {0, 1, 3}, "test labels are dummies"
        seen |= found
    assert seen <= {0, 1, 3, 4, 5} | CITYSCAPES_TRAINED
    assert {0, 7, 8, 11, 21, 23, 26} <= seen


def test_cityscapes_knows_all_trained_classes():
    assert set(cityscapes.LABELS) - {1, 3, 4, 5} == CITYSCAPES_TRAINED


def test_coarse_labels_are_a_subset_of_the_fine_ones():
    from ingest.scenes.render import scene

    ids = cityscapes.label_ids(scene(0, 0, 256, 512))
    rough = cityscapes.coarse(ids)
    marked = rough > 0
    assert 0.3 < marked.mean() < (ids > 0).mean()
    assert np.array_equal(rough[marked], ids[marked])


def test_ade20k(twin: Callable[..., Path]):
    folder = twin("ade20k")
    root = folder / "ADEChallengeData2016"
    assert names(root, "images/training/*")[0] == "images/training/ADE_train_00000001.jpg"
    assert len(names(folder, "release_test/testing/ADE_test_*.jpg")) == 1
    seen = set()
    for name in names(root, "annotations/*/*.png"):
        ids = mask(root / name)
        assert ids.shape == upright(root / name.replace("annotations", "images").replace(".png", ".jpg"))
        seen |= set(np.unique(ids).tolist())
    assert {0, 3, 7, 21} <= seen <= set(range(151))


def test_cocostuff164k(twin: Callable[..., Path]):
    root = twin("cocostuff164k")
    assert len(names(root, "images/test2017/*")) == 1
    seen = set()
    for name in names(root, "annotations/*/*.png"):
        assert len(Path(name).stem) == 12
        ids = mask(root / name)
        assert ids.shape == upright(root / name.replace("annotations", "images").replace(".png", ".jpg"))
        seen |= set(np.unique(ids).tolist())
    assert not seen & COCO_ABSENT
    assert {2, 148, 156, 255} <= seen <= {*range(182), 255}  # car, road, sky-other, unlabeled


def test_cocostuff10k(twin: Callable[..., Path]):
    root = twin("cocostuff10k")
    lists = {path.stem: path.read_text().split() for path in (root / "imageLists").iterdir()}
    assert sorted(lists["train"] + lists["test"]) == lists["all"]
    seen = set()
    for name in lists["all"]:
        assert name.startswith("COCO_train2014_")
        held = scipy.io.loadmat(root / f"annotations/{name}.mat")
        assert held["S"].dtype == np.uint16
        assert held["S"].shape == upright(root / f"images/{name}.jpg")
        assert [cell[0][0] for cell in held["names"]] == NAMES
        seen |= set(np.unique(held["S"]).tolist())
    assert {0, 3, 149, 157} <= seen <= set(range(183))


def test_coco_names():
    assert len(NAMES) == len(set(NAMES)) == 182
    assert (NAMES[0], NAMES[2], NAMES[90], NAMES[91], NAMES[148], NAMES[181]) == (
        "person", "car", "hair brush", "banner", "road", "wood",
    )  # fmt: skip
    assert {NAMES.index(name) for name in cocostuff.KINDS.values()}.isdisjoint(COCO_ABSENT)


@pytest.mark.parametrize("layout", ["voc", "ade20k", "cocostuff164k"])
def test_quirks(twin: Callable[..., Path], layout: str):
    root = twin(layout)
    folder = {
        "voc": "VOCdevkit/VOC2012/JPEGImages/2007_*",
        "ade20k": "*/images/training/*",
        "cocostuff164k": "images/train2017/*",
    }
    images = [root / name for name in names(root, folder[layout])]

    def facts(index: int) -> tuple[str, int, bool]:
        with Image.open(images[index]) as image:
            return image.mode, image.getexif().get(0x0112, 1), bool(image.info.get("progressive"))

    assert facts(0) == ("RGB", 1, False)
    assert facts(quirks.GRAY)[0] == "L"
    assert facts(quirks.ROTATED) == ("RGB", 6, False)
    assert facts(quirks.CMYK)[0] == "CMYK"
    assert facts(quirks.PROGRESSIVE)[2]
    assert len({Image.open(path).size for path in images}) > 2, "sizes differ as in the real set"


@pytest.mark.parametrize(
    ("layout", "blank", "nothing"),
    [
        ("voc", "VOCdevkit/VOC2012/SegmentationClass/2007_000006.png", 0),
        ("ade20k", "ADEChallengeData2016/annotations/training/ADE_train_00000006.png", 0),
        ("cocostuff164k", "annotations/train2017/000000000060.png", 255),
    ],
)
def test_one_label_says_nothing(twin: Callable[..., Path], layout: str, blank: str, nothing: int):
    assert np.unique(np.asarray(Image.open(twin(layout) / blank))).tolist() == [nothing]


def test_rotated_image_shows_the_same_scene_upright():
    image = np.zeros((4, 6, 3), np.uint8)
    image[:, :3] = 200
    with Image.open(io.BytesIO(quirks.jpeg(image, quirks.ROTATED, quality=100))) as stored:
        assert stored.size == (4, 6)
        shown = np.asarray(stored.transpose(Image.Transpose.ROTATE_270))  # what orientation 6 asks of a viewer
    assert np.abs(shown.astype(int) - image).max() < 20


ARCHIVED = {
    "voc": {"VOCtrainval_11-May-2012.tar", "VOC2012test.tar"},
    "voc_aug": {"VOCtrainval_11-May-2012.tar", "VOC2012test.tar", "SegmentationClassAug.zip"},
    "voc_sbd": {"VOCtrainval_11-May-2012.tar", "VOC2012test.tar", "benchmark.tgz"},
    "cityscapes": {"leftImg8bit_trainvaltest.zip", "gtFine_trainvaltest.zip"},
    "cityscapes_coarse": {"leftImg8bit_trainvaltest.zip", "leftImg8bit_trainextra.zip", "gtCoarse.zip"},
    "ade20k": {"ADEChallengeData2016.zip", "release_test.zip"},
    "cocostuff164k": {"train2017.zip", "val2017.zip", "test2017.zip", "stuffthingmaps_trainval2017.zip"},
    "cocostuff10k": {"cocostuff-10k-v1.1.zip"},
}


def test_all_layouts_but_the_plain_one_have_archives():
    assert set(ARCHIVED) == set(LAYOUTS) - {"folder"}


@pytest.mark.parametrize("layout", sorted(ARCHIVED))
def test_archives_hold_what_the_folders_hold(twin: Callable[..., Path], layout: str):
    packed = twin(layout, archives=True)
    loose = twin(layout)
    assert {path.name for path in packed.iterdir() if path.suffix != ".txt"} == ARCHIVED[layout]
    members: dict[str, bytes] = {path.name: path.read_bytes() for path in packed.glob("*.txt")}
    for path in packed.iterdir():
        if path.suffix == ".zip":
            with zipfile.ZipFile(path) as archive:
                members |= {name: archive.read(name) for name in archive.namelist()}
        elif path.suffix != ".txt":
            with tarfile.open(path) as archive:
                members |= {info.name: archive.extractfile(info).read() for info in archive}
    files = {str(path.relative_to(loose)): path.read_bytes() for path in loose.rglob("*") if path.is_file()}
    assert sorted(members.values()) == sorted(files.values())
    unpacked = {name for name in members if name in files}
    inside_elsewhere = {"voc_aug": ("SegmentationClassAug/", "_aug.txt"), "voc_sbd": ("_aug.txt",),
                        "cocostuff164k": ("train2017/", "val2017/", "test2017/")}  # fmt: skip
    assert all(any(mark in name for mark in inside_elsewhere.get(layout, ())) for name in set(members) - unpacked)


@pytest.mark.parametrize("layout", ["cocostuff10k", "voc_sbd"])
def test_archives_have_the_same_bytes_twice(tmp_path: Path, layout: str):
    counts = dict.fromkeys(LAYOUTS[layout].splits, 1)
    one, two = (write(tmp_path / name, layout, counts, (32, 48), workers=1, archives=True) for name in ("one", "two"))
    for path in one.iterdir():
        assert path.read_bytes() == (two / path.name).read_bytes()
