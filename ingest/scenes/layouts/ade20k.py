"""ADE20K scene parsing's layout: PNG masks of 1..150, 0 = other. Source: the SceneParsing toolkit's objectInfo150."""

from __future__ import annotations

from ingest.scenes import encode, quirks
from ingest.scenes.kinds import Kind
from ingest.scenes.layouts.layout import Archive, File, Job, Layout

ROOT = "ADEChallengeData2016"
IDS = {
    Kind.WALL: 1,
    Kind.BUILDING: 2,
    Kind.SKY: 3,
    Kind.TREE: 5,
    Kind.ROAD: 7,
    Kind.GRASS: 10,
    Kind.PAVEMENT: 12,
    Kind.PERSON: 13,
    Kind.RIDER: 13,
    Kind.TABLE: 16,
    Kind.BUSH: 18,
    Kind.POT_PLANT: 18,
    Kind.CHAIR: 20,
    Kind.CAR: 21,
    Kind.HOUSE: 26,
    Kind.FENCE: 33,
    Kind.SIGN: 44,
    Kind.SKYSCRAPER: 49,
    Kind.HILL: 69,
    Kind.BENCH: 70,
    Kind.BUS: 81,
    Kind.TRUCK: 84,
    Kind.AEROPLANE: 91,
    Kind.POLE: 94,
    Kind.VAN: 103,
    Kind.MOTORCYCLE: 117,
    Kind.DOG: 127,
    Kind.BIRD: 127,
    Kind.BICYCLE: 128,
    Kind.TRAFFIC_LIGHT: 137,
    Kind.BIN: 139,
}
_TABLE = encode.table(IDS, other=0)
_FOLDERS = {"train": "training", "val": "validation"}


def _files(job: Job) -> list[File]:
    drawn, name = job.draw_varied(), f"ADE_{job.split}_{job.index + 1:08d}"
    image = quirks.jpeg(drawn.image, job.index)
    if job.split == "test":
        return [(f"release_test/testing/{name}.jpg", image)]
    folder, ids = _FOLDERS[job.split], quirks.label(_TABLE[drawn.kinds], job.index, nothing=0)
    return [
        (f"{ROOT}/images/{folder}/{name}.jpg", image),
        (f"{ROOT}/annotations/{folder}/{name}.png", encode.png(ids)),
    ]


def _lists(counts: dict[str, int]) -> list[File]:
    names = [f"ADE_{split}_{index + 1:08d} street" for split in _FOLDERS for index in range(counts[split])]
    return [(f"{ROOT}/sceneCategories.txt", "".join(f"{name}\n" for name in names).encode())]


LAYOUT = Layout(
    name="ade20k",
    about="ADEChallengeData2016: masks of 1..150, 0 = other",
    size=(512, 683),
    splits={"train": 40, "val": 16, "test": 0},
    files=_files,
    lists=_lists,
    command="python -m ingest ade20k {path}",
    archives={
        f"{ROOT}/": Archive("ADEChallengeData2016.zip", f"{ROOT}/"),
        "release_test/": Archive("release_test.zip", "release_test/"),
    },
)
