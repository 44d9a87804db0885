"""PASCAL VOC 2012's layout: palette masks, 255 around objects, lists of bare ids. Source: the VOC2012 devkit's manual.

Twelve of the twenty object classes are drawn, where a street can hold them; cows and sofas are not.
"""

from __future__ import annotations

import numpy as np

from ingest.scenes import encode, quirks
from ingest.scenes.kinds import Kind
from ingest.scenes.layouts.layout import Archive, File, Job, Layout
from ingest.scenes.render import Scene

ROOT = "VOCdevkit/VOC2012"
LISTS = f"{ROOT}/ImageSets/Segmentation"
SPLIT_LISTS = ("train", "val", "trainval", "test")

IDS = {
    Kind.AEROPLANE: 1,
    Kind.BICYCLE: 2,
    Kind.BIRD: 3,
    Kind.BUS: 6,
    Kind.CAR: 7,
    Kind.VAN: 7,
    Kind.CHAIR: 9,
    Kind.TABLE: 11,
    Kind.DOG: 12,
    Kind.MOTORCYCLE: 14,
    Kind.PERSON: 15,
    Kind.RIDER: 15,
    Kind.POT_PLANT: 16,
    Kind.TRAM: 19,
}
TABLE = encode.table(IDS, other=0)
_COLORS = encode.voc_colormap()

ARCHIVES = {
    "VOCdevkit/": Archive("VOCtrainval_11-May-2012.tar", "VOCdevkit/"),
    f"{LISTS}/test.txt": Archive("VOC2012test.tar", f"{LISTS}/test.txt"),
    f"{ROOT}/JPEGImages/2008_": Archive("VOC2012test.tar", f"{ROOT}/JPEGImages/2008_"),  # stem(): test images alone
}


def stem(split: str, index: int) -> str:
    """An image id as VOC writes them: year, underscore, six digits."""
    year = {"train": 2007, "val": 2009, "test": 2008, "extra": 2010}[split]
    return f"{year}_{index + 1:06d}"


def mask(drawn: Scene) -> np.ndarray:
    """VOC ids (H, W) uint8, with 255 along objects' edges: about five pixels wide at 500 x 375."""
    return encode.borders(TABLE[drawn.kinds], drawn.things, max(1, round(min(drawn.kinds.shape) / 180)))


def lines(names: list[str]) -> bytes:
    return "".join(f"{name}\n" for name in names).encode()


def files(job: Job) -> list[File]:
    """The JPEG, and the palette mask where VOC has one."""
    return files_of(job, job.draw_varied())


def files_of(job: Job, drawn: Scene) -> list[File]:
    """The same, of a scene already drawn."""
    name = stem(job.split, job.index)
    out = [(f"{ROOT}/JPEGImages/{name}.jpg", quirks.jpeg(drawn.image, job.index))]
    if job.split in ("train", "val"):
        ids = quirks.label(mask(drawn), job.index, nothing=0)
        out.append((f"{ROOT}/SegmentationClass/{name}.png", encode.palette_png(ids, _COLORS)))
    return out


def lists(counts: dict[str, int]) -> list[File]:
    """train.txt, val.txt, trainval.txt, and test.txt where there are test images."""
    names = {split: [stem(split, index) for index in range(count)] for split, count in counts.items()}
    listed = {"train": names["train"], "val": names["val"], "trainval": sorted(names["train"] + names["val"])}
    if names.get("test"):
        listed["test"] = names["test"]
    return [(f"{LISTS}/{split}.txt", lines(ids)) for split, ids in listed.items()]


LAYOUT = Layout(
    name="voc",
    about="VOCdevkit/VOC2012: palette masks with borders, 21 classes",
    size=(375, 500),
    splits={"train": 120, "val": 40, "test": 0},
    files=files,
    lists=lists,
    command="python -m ingest voc {path}",
    archives=ARCHIVES,
)
