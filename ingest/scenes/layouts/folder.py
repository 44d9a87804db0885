"""A plain folder of images and masks with its spec: the default demo data, eight classes.

images/{train,val}/*.jpg   labels/{train,val}/*.png (mode L, 255 = unlabeled)   dataset.yaml
"""

from __future__ import annotations

from ingest.scenes import encode
from ingest.scenes.kinds import Kind
from ingest.scenes.layouts.layout import File, Job, Layout

# class -> its color in pictures, and the kinds that count as it; all other kinds are unlabeled clutter
CLASSES: dict[str, tuple[tuple[int, int, int], tuple[Kind, ...]]] = {
    "sky": ((70, 130, 180), (Kind.SKY,)),
    "building": ((110, 110, 110), (Kind.BUILDING, Kind.HOUSE, Kind.SKYSCRAPER, Kind.WALL)),
    "road": ((128, 64, 128), (Kind.ROAD,)),
    "pavement": ((244, 35, 232), (Kind.PAVEMENT,)),
    "vegetation": ((107, 142, 35), (Kind.TREE, Kind.BUSH, Kind.GRASS, Kind.HILL)),
    "vehicle": (
        (0, 0, 200),
        (Kind.CAR, Kind.VAN, Kind.TRUCK, Kind.BUS, Kind.TRAM, Kind.MOTORCYCLE, Kind.BICYCLE),
    ),
    "person": ((220, 20, 60), (Kind.PERSON, Kind.RIDER)),
    "pole": ((230, 220, 120), (Kind.POLE, Kind.SIGN, Kind.TRAFFIC_LIGHT)),
}

_IDS = encode.table({kind: number for number, (_, kinds) in enumerate(CLASSES.values()) for kind in kinds}, other=255)

_SPEC = """\
# Procedural street scenes, drawn by `python -m ingest scenes`. Also an example of a spec for a dataset of your own.
name: scenes
classes: [{names}]
palette:
{colors}
ignore: [255] # clutter and the camera's own bonnet
splits:
{splits}
"""


def _files(job: Job) -> list[File]:
    drawn = job.draw()
    stem = f"{job.split}_{job.index:05d}"
    return [
        (f"images/{job.split}/{stem}.jpg", encode.jpeg(drawn.image)),
        (f"labels/{job.split}/{stem}.png", encode.png(_IDS[drawn.kinds])),
    ]


def _lists(counts: dict[str, int]) -> list[File]:
    spec = _SPEC.format(
        names=", ".join(CLASSES),
        colors="\n".join(f"  - {list(color)} # {name}" for name, (color, _) in CLASSES.items()),
        splits="\n".join(
            f'  {split}: {{ images: "images/{split}/*.jpg", labels: "labels/{split}/*.png" }}'
            for split, count in counts.items()
            if count
        ),
    )
    return [("dataset.yaml", spec.encode())]


LAYOUT = Layout(
    name="folder",
    about="plain folders of JPEGs and masks, eight classes, with the spec for `ingest folder`",
    size=(192, 256),
    splits={"train": 400, "val": 100},
    files=_files,
    lists=_lists,
    command="python -m ingest folder {path} --spec {path}/dataset.yaml",
)
