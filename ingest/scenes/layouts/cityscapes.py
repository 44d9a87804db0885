"""Cityscapes' layout: PNGs by split and city, label ids of 35 classes. Source: cityscapesScripts' README and labels.py.

`cityscapes` is the fine set with dummy labels for test, `cityscapes_coarse` the coarse one with train_extra.
"""

from __future__ import annotations

import json

import cv2
import numpy as np

from ingest.scenes import encode
from ingest.scenes.kinds import Kind
from ingest.scenes.layouts.layout import Archive, File, Job, Layout
from ingest.scenes.render import Scene

UNLABELED, EGO_VEHICLE, OUT_OF_ROI = 0, 1, 3
# id -> name and color of those that are drawn
LABELS: dict[int, tuple[str, tuple[int, int, int], tuple[Kind, ...]]] = {
    1: ("ego vehicle", (0, 0, 0), (Kind.BONNET,)),
    3: ("out of roi", (0, 0, 0), ()),
    4: ("static", (0, 0, 0), (Kind.BENCH, Kind.BIN, Kind.TABLE, Kind.CHAIR, Kind.POT_PLANT)),
    5: ("dynamic", (111, 74, 0), (Kind.DOG, Kind.BIRD, Kind.AEROPLANE)),
    7: ("road", (128, 64, 128), (Kind.ROAD,)),
    8: ("sidewalk", (244, 35, 232), (Kind.PAVEMENT,)),
    11: ("building", (70, 70, 70), (Kind.BUILDING, Kind.HOUSE, Kind.SKYSCRAPER)),
    12: ("wall", (102, 102, 156), (Kind.WALL,)),
    13: ("fence", (190, 153, 153), (Kind.FENCE,)),
    17: ("pole", (153, 153, 153), (Kind.POLE,)),
    19: ("traffic light", (250, 170, 30), (Kind.TRAFFIC_LIGHT,)),
    20: ("traffic sign", (220, 220, 0), (Kind.SIGN,)),
    21: ("vegetation", (107, 142, 35), (Kind.TREE, Kind.BUSH, Kind.HILL)),
    22: ("terrain", (152, 251, 152), (Kind.GRASS,)),
    23: ("sky", (70, 130, 180), (Kind.SKY,)),
    24: ("person", (220, 20, 60), (Kind.PERSON,)),
    25: ("rider", (255, 0, 0), (Kind.RIDER,)),
    26: ("car", (0, 0, 142), (Kind.CAR, Kind.VAN)),
    27: ("truck", (0, 0, 70), (Kind.TRUCK,)),
    28: ("bus", (0, 60, 100), (Kind.BUS,)),
    31: ("train", (0, 80, 100), (Kind.TRAM,)),
    32: ("motorcycle", (0, 0, 230), (Kind.MOTORCYCLE,)),
    33: ("bicycle", (119, 11, 32), (Kind.BICYCLE,)),
}
_TABLE = encode.table({kind: label for label, (_, _, kinds) in LABELS.items() for kind in kinds}, other=UNLABELED)

CITIES = {
    "train": ("aachen", "bochum", "bremen", "cologne", "hamburg", "zurich"),
    "val": ("frankfurt", "lindau", "munster"),
    "test": ("berlin", "bielefeld", "bonn"),
    "extra": ("augsburg", "bad-honnef", "troisdorf", "wuppertal"),
}
_NAMES = {"extra": "train_extra"}  # split names on disk


def stem(split: str, index: int) -> tuple[str, str]:
    """City, and the file's stem: city_sequence_frame."""
    city = CITIES[split][index % len(CITIES[split])]
    return city, f"{city}_{index:06d}_{'000019' if split != 'extra' else '000000'}"


def label_ids(drawn: Scene) -> np.ndarray:
    """Ids 0..33 (H, W) uint8; the rectified picture's outer edge is out of roi."""
    ids = _TABLE[drawn.kinds]
    edge = max(1, round(ids.shape[1] / 400))
    ids[:, :edge], ids[:, -edge:], ids[-edge:] = OUT_OF_ROI, OUT_OF_ROI, OUT_OF_ROI
    return ids


def coarse(ids: np.ndarray) -> np.ndarray:
    """As if drawn in a few minutes: the inside of large regions, the rest unlabeled."""
    reach = max(1, round(ids.shape[0] / 60))
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    out = np.zeros_like(ids)
    for label in np.unique(ids):
        region = (ids == label).astype(np.uint8)
        core = cv2.erode(region, kernel, borderType=cv2.BORDER_REPLICATE)
        out[cv2.morphologyEx(core, cv2.MORPH_OPEN, kernel) > 0] = label
    return out


def _ground_truth(ids: np.ndarray, things: np.ndarray, folder: str, name: str, kind: str) -> list[File]:
    """The four files of one picture: label ids, instance ids, colors, polygons."""
    height, width = ids.shape
    instances = ids.astype(np.uint16)
    for label in (24, 25, 26, 27, 28, 31, 32, 33):
        mine = ids == label
        for number, thing in enumerate(np.unique(things[mine])):
            instances[mine & (things == thing)] = label * 1000 + number
    colors = np.zeros((256, 4), np.uint8)
    colors[:, 3] = 255
    objects = []
    for label, (title, color, _) in LABELS.items():
        colors[label, :3] = color
        rings, _ = cv2.findContours((ids == label).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
        objects += [{"label": title, "polygon": ring[:, 0].tolist()} for ring in rings if len(ring) > 3]
    polygons = json.dumps({"imgHeight": height, "imgWidth": width, "objects": objects})
    return [
        (f"{folder}/{name}_{kind}_labelIds.png", encode.png(ids)),
        (f"{folder}/{name}_{kind}_instanceIds.png", encode.png(instances)),
        (f"{folder}/{name}_{kind}_color.png", encode.png(colors[ids])),
        (f"{folder}/{name}_{kind}_polygons.json", polygons.encode()),
    ]


def _files(job: Job, kind: str) -> list[File]:
    drawn, split = job.draw(), _NAMES.get(job.split, job.split)
    city, name = stem(job.split, job.index)
    ids, things = label_ids(drawn), drawn.things
    if job.split == "test":  # withheld: only what is outside the evaluation is marked
        ids = np.where((ids == EGO_VEHICLE) | (ids == OUT_OF_ROI), ids, UNLABELED)
    if kind == "gtCoarse":
        ids = coarse(ids)
    image = (f"leftImg8bit/{split}/{city}/{name}_leftImg8bit.png", encode.png(drawn.image))
    return [image, *_ground_truth(ids, things, f"{kind}/{split}/{city}", name, kind)]


def _fine_files(job: Job) -> list[File]:
    return _files(job, "gtFine")


def _coarse_files(job: Job) -> list[File]:
    return _files(job, "gtCoarse")


def _no_lists(_counts: dict[str, int]) -> list[File]:
    note = b"Procedural street scenes in Cityscapes' layout, drawn by segrail. Not the Cityscapes dataset.\n"
    return [("README", note), ("license.txt", note)]


_IMAGES = {
    "leftImg8bit/": Archive("leftImg8bit_trainvaltest.zip", "leftImg8bit/"),
    "leftImg8bit/train_extra/": Archive("leftImg8bit_trainextra.zip", "leftImg8bit/train_extra/"),
    "README": Archive("leftImg8bit_trainvaltest.zip", "README"),
    "license.txt": Archive("leftImg8bit_trainvaltest.zip", "license.txt"),
}

FINE = Layout(
    name="cityscapes",
    about="leftImg8bit and gtFine by split and city, PNGs of label ids",
    size=(1024, 2048),
    splits={"train": 24, "val": 9, "test": 3},
    files=_fine_files,
    lists=_no_lists,
    command="python -m ingest cityscapes {path}",
    archives=_IMAGES | {"gtFine/": Archive("gtFine_trainvaltest.zip", "gtFine/")},
)

COARSE = Layout(
    name="cityscapes_coarse",
    about="leftImg8bit and gtCoarse, with train_extra",
    size=(1024, 2048),
    splits={"train": 12, "val": 3, "extra": 24},
    files=_coarse_files,
    lists=_no_lists,
    command="python -m ingest cityscapes {path} --labels coarse",
    archives=_IMAGES | {"gtCoarse/": Archive("gtCoarse.zip", "gtCoarse/")},
)
