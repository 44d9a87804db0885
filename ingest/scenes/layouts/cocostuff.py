"""COCO-Stuff's layouts: the 164k release of PNG masks, and the 10k release of .mat files.

Source: labels.md and README of the COCO-Stuff repositories (Caesar et al., CVPR 2018). Ids run from 1 to 182, 0 is
unlabeled; 164k's PNGs hold the id less one and 255 for unlabeled, 10k's .mat files the id itself.
"""

from __future__ import annotations

import numpy as np

from ingest.scenes import encode, quirks
from ingest.scenes.kinds import Kind
from ingest.scenes.layouts.coco_names import NAMES
from ingest.scenes.layouts.layout import Archive, File, Job, Layout

KINDS = {
    Kind.PERSON: "person",
    Kind.RIDER: "person",
    Kind.BICYCLE: "bicycle",
    Kind.CAR: "car",
    Kind.VAN: "car",
    Kind.MOTORCYCLE: "motorcycle",
    Kind.AEROPLANE: "airplane",
    Kind.BUS: "bus",
    Kind.TRAM: "train",
    Kind.TRUCK: "truck",
    Kind.TRAFFIC_LIGHT: "traffic light",
    Kind.BENCH: "bench",
    Kind.BIRD: "bird",
    Kind.DOG: "dog",
    Kind.CHAIR: "chair",
    Kind.POT_PLANT: "potted plant",
    Kind.TABLE: "dining table",
    Kind.BUILDING: "building-other",
    Kind.BUSH: "bush",
    Kind.FENCE: "fence",
    Kind.GRASS: "grass",
    Kind.HILL: "hill",
    Kind.HOUSE: "house",
    Kind.POLE: "metal",
    Kind.SIGN: "metal",
    Kind.BIN: "plastic",
    Kind.PAVEMENT: "pavement",
    Kind.ROAD: "road",
    Kind.SKY: "sky-other",
    Kind.SKYSCRAPER: "skyscraper",
    Kind.TREE: "tree",
    Kind.WALL: "wall-stone",
}
_IDS = encode.table({kind: NAMES.index(name) + 1 for kind, name in KINDS.items()}, other=0)


def _number(split: str, index: int) -> str:
    """COCO's twelve digits; the same number never stands for two images."""
    return f"{('train', 'val', 'test').index(split) + 10 * (index + 1):012d}"


def _files_164k(job: Job) -> list[File]:
    drawn, folder = job.draw_varied(), f"{job.split}2017"
    name = _number(job.split, job.index)
    out = [(f"images/{folder}/{name}.jpg", quirks.jpeg(drawn.image, job.index))]
    if job.split != "test":
        ids = quirks.label(_IDS[drawn.kinds], job.index, nothing=0)
        out.append((f"annotations/{folder}/{name}.png", encode.png(ids - np.uint8(1))))  # 0 wraps to 255
    return out


def _no_lists(_counts: dict[str, int]) -> list[File]:
    return []


def _files_10k(job: Job) -> list[File]:
    drawn, name = job.draw_varied(), f"COCO_train2014_{_number(job.split, job.index)}"
    ids = quirks.label(_IDS[drawn.kinds], job.index, nothing=0).astype(np.uint16)
    names = np.array(NAMES, dtype=object).reshape(-1, 1)
    captions = np.array(["a street"], dtype=object).reshape(-1, 1)
    return [
        (f"images/{name}.jpg", quirks.jpeg(drawn.image, job.index)),
        (f"annotations/{name}.mat", encode.mat({"S": ids, "names": names, "captions": captions})),
    ]


def _lists_10k(counts: dict[str, int]) -> list[File]:
    names = {
        split: [f"COCO_train2014_{_number(split, index)}" for index in range(count)] for split, count in counts.items()
    }
    names["all"] = sorted(names["train"] + names["test"])
    return [(f"imageLists/{split}.txt", "".join(f"{name}\n" for name in ids).encode()) for split, ids in names.items()]


LAYOUT_164K = Layout(
    name="cocostuff164k",
    about="images and annotations of train2017 and val2017, masks of 0..181, 255 = unlabeled",
    size=(480, 640),
    splits={"train": 40, "val": 16, "test": 0},
    files=_files_164k,
    lists=_no_lists,
    command="python -m ingest cocostuff {path}",
    archives={
        f"images/{split}2017/": Archive(f"{split}2017.zip", f"{split}2017/") for split in ("train", "val", "test")
    }
    | {"annotations/": Archive("stuffthingmaps_trainval2017.zip", "")},
)

LAYOUT_10K = Layout(
    name="cocostuff10k",
    about="images, annotations as .mat, imageLists of train and (labeled) test",
    size=(480, 640),
    splits={"train": 36, "test": 12},
    files=_files_10k,
    lists=_lists_10k,
    command="python -m ingest cocostuff {path} --version 10k",
    archives={
        prefix: Archive("cocostuff-10k-v1.1.zip", prefix) for prefix in ("images/", "annotations/", "imageLists/")
    },
)
