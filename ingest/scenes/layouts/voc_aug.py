"""VOC 2012 with the augmented training set, in the two forms found in the wild.

`voc_aug`: SegmentationClassAug/*.png (mode L, no borders but the ignored ones) and *_aug.txt lists of path pairs with a
leading slash. `voc_sbd`: the original SBD release (Hariharan et al., ICCV 2011), `cls/*.mat` with GTcls.Segmentation,
whose own lists overlap VOC's val, and a train_aug.txt of bare ids.
"""

from __future__ import annotations

import numpy as np

from ingest.scenes import encode, quirks
from ingest.scenes.layouts import voc
from ingest.scenes.layouts.layout import Archive, File, Job, Layout

SBD = "benchmark_RELEASE/dataset"


def _aug_files(job: Job) -> list[File]:
    drawn, name = job.draw_varied(), voc.stem(job.split, job.index)
    image = (f"{voc.ROOT}/JPEGImages/{name}.jpg", quirks.jpeg(drawn.image, job.index))
    if job.split == "test":
        return [image]
    ids = quirks.label(voc.mask(drawn), job.index, nothing=0)
    out = [image, (f"{voc.ROOT}/SegmentationClassAug/{name}.png", encode.png(ids))]
    if job.split != "extra":
        out.append((f"{voc.ROOT}/SegmentationClass/{name}.png", encode.palette_png(ids, encode.voc_colormap())))
    return out


def _aug_lists(counts: dict[str, int]) -> list[File]:
    names = {split: [voc.stem(split, index) for index in range(count)] for split, count in counts.items()}
    train = sorted(names["train"] + names["extra"])
    out = voc.lists(counts)
    for split, ids in {"train": train, "val": names["val"], "trainval": sorted(train + names["val"])}.items():
        pairs = [f"/JPEGImages/{name}.jpg /SegmentationClassAug/{name}.png" for name in ids]
        out.append((f"{voc.LISTS}/{split}_aug.txt", voc.lines(pairs)))
    if names["test"]:
        out.append((f"{voc.LISTS}/test_aug.txt", voc.lines([f"/JPEGImages/{name}.jpg" for name in names["test"]])))
    return out


def _sbd_files(job: Job) -> list[File]:
    drawn, name = job.draw_varied(), voc.stem(job.split, job.index)
    out = voc.files_of(job, drawn)
    if job.split == "test":
        return out
    ids = quirks.label(voc.TABLE[drawn.kinds], job.index, nothing=0)  # SBD has no border
    present = np.unique(ids[ids > 0]).reshape(-1, 1)
    truth = {"Segmentation": ids, "CategoriesPresent": present}
    out.append((f"{SBD}/cls/{name}.mat", encode.mat({"GTcls": truth})))
    out.append((f"{SBD}/img/{name}.jpg", out[0][1]))
    return out


def _sbd_lists(counts: dict[str, int]) -> list[File]:
    names = {split: [voc.stem(split, index) for index in range(count)] for split, count in counts.items()}
    both = sorted(names["train"] + names["val"] + names["extra"])
    out = voc.lists(counts)
    # SBD split its images anew: VOC's val images are in both of its lists
    out += [(f"{SBD}/train.txt", voc.lines(both[::2])), (f"{SBD}/val.txt", voc.lines(both[1::2]))]
    out.append((f"{voc.LISTS}/train_aug.txt", voc.lines(sorted(names["train"] + names["extra"]))))
    return out


_LOOSE_LISTS = {f"{voc.LISTS}/{split}_aug.txt": Archive("", f"{split}_aug.txt") for split in voc.SPLIT_LISTS}

AUG = Layout(
    name="voc_aug",
    about="the same with SegmentationClassAug and *_aug.txt lists of path pairs",
    size=(375, 500),
    splits={"train": 60, "val": 40, "test": 0, "extra": 60},
    files=_aug_files,
    lists=_aug_lists,
    command="python -m ingest voc {path} --labels aug",
    archives=voc.ARCHIVES
    | _LOOSE_LISTS
    | {f"{voc.ROOT}/SegmentationClassAug/": Archive("SegmentationClassAug.zip", "SegmentationClassAug/")},
)

SBD_LAYOUT = Layout(
    name="voc_sbd",
    about="the same with SBD's .mat labels and a train_aug.txt of bare ids",
    size=(375, 500),
    splits={"train": 60, "val": 40, "test": 0, "extra": 60},
    files=_sbd_files,
    lists=_sbd_lists,
    command="python -m ingest voc {path} --labels sbd",
    archives=voc.ARCHIVES | _LOOSE_LISTS | {"benchmark_RELEASE/": Archive("benchmark.tgz", "benchmark_RELEASE/")},
)
