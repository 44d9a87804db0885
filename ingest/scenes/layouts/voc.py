"""PASCAL VOC 2012's layout: palette masks, 255 around objects, lists of bare ids. Source: the VOC2012 devkit's manual.

Twelve of the twenty object classes are drawn where a street can hold them; cows and sofas are not.
"""

from __future__ import annotations

import numpy as np

from ingest.scenes import encode
from ingest.scenes.kinds import Kind
from ingest.scenes.layouts.layout import File, Job, Layout

ROOT = "VOCdevkit/VOC2012"

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
_TABLE = encode.table(IDS, other=0)
_COLOURS = encode.voc_colormap()


def stem(split: str, index: int) -> str:
    """An image id as VOC writes them: year, underscore, six digits. Train and val alternate, as their ids mix there."""
    return f"{2007 + index % 6}_{2 * index + (split == 'val') + 1:06d}"


def mask(kinds: np.ndarray, things: np.ndarray, bordered: bool = True) -> np.ndarray:
    """VOC ids (H, W) uint8, with 255 along objects' edges."""
    ids = _TABLE[kinds]
    return encode.borders(ids, things, max(1, round(kinds.shape[0] / 180))) if bordered else ids


def _files(job: Job) -> list[File]:
    drawn = LAYOUT.draw(job)
    name = stem(job.split, job.index)
    return [
        (f"{ROOT}/JPEGImages/{name}.jpg", encode.jpeg(drawn.image)),
        (f"{ROOT}/SegmentationClass/{name}.png", encode.palette_png(mask(drawn.kinds, drawn.things), _COLOURS)),
    ]


def _lists(counts: dict[str, int]) -> list[File]:
    names = {split: [stem(split, index) for index in range(count)] for split, count in counts.items()}
    names["trainval"] = sorted(names["train"] + names["val"])
    return [
        (f"{ROOT}/ImageSets/Segmentation/{split}.txt", "".join(f"{name}\n" for name in listed).encode())
        for split, listed in names.items()
    ]


LAYOUT = Layout(
    name="voc",
    size=(375, 500),
    splits={"train": 120, "val": 40},
    files=_files,
    lists=_lists,
    hint=lambda path: f"python -m ingest voc {path}",
    archives={"VOCdevkit": "VOCtrainval_11-May-2012.tar"},
)
