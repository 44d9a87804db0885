"""The files that benchmarks ask for: their own ids, names, folders and archive.

cityscapes   <city>_<sequence>_<frame>_pred_labelIds.png with label ids, in a zip
ade20k       <image>.png with 1..150, in a zip
voc          results/VOC2012/Segmentation/comp6_<split>_cls/<image>.png, palette PNGs of 0..20, in a .tgz; comp6 is for
             nets that saw other data too (an ImageNet start), comp5 for those that did not
cocostuff    stuff_<split>_segrail_results.json in a zip: a record an image and stuff class with COCO's run lengths; the
             things count as the one class `other`, 183
"""

from __future__ import annotations

import json
import os
import shutil
import tarfile
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm.auto import tqdm

from ingest.errors import UserError
from ingest.shards import atomic
from ingest.shards.manifest import Manifest
from ingest.shards.reader import ShardSet
from pipeline.batch import Batch
from pipeline.loader import EvalLoader
from train.distributed import Ranks
from train.predict.outputs import save_mask
from train.predict.windows import Inference, segment

Array = NDArray[np.uint8]

_CITYSCAPES = [7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33]
_COCO_ABSENT = (12, 26, 29, 30, 45, 66, 68, 69, 71, 83, 91)  # category ids that never occur
_FIRST_STUFF, _OTHER = 92, 183


@dataclass(frozen=True)
class Form:
    """What one benchmark wants."""

    ids: Callable[[int], list[int]]
    """Number of classes -> the value written for each; empty where the benchmark has another number of classes."""
    path: Callable[[str, str], str]
    """(split, the image's path in the raw dataset) -> the mask's path in the archive."""
    archive: str
    """zip | tgz."""
    records: bool = False
    """COCO's records instead of masks."""


def _coco_ids(classes: int) -> list[int]:
    ids = [c for c in range(1, 183) if classes == 182 or c not in _COCO_ABSENT]
    return ids if len(ids) == classes else []


def _stem(image: str) -> str:
    return PurePosixPath(image).stem


FORMS = {
    "cityscapes": Form(
        lambda classes: _CITYSCAPES if classes == 19 else [],
        lambda _, image: f"{_stem(image).removesuffix('_leftImg8bit')}_pred_labelIds.png",
        "zip",
    ),
    "ade20k": Form(
        lambda classes: list(range(1, 151)) if classes == 150 else [], lambda _, image: f"{_stem(image)}.png", "zip"
    ),
    "voc": Form(
        lambda classes: list(range(21)) if classes == 21 else [],
        lambda split, image: f"results/VOC2012/Segmentation/comp6_{split}_cls/{_stem(image)}.png",
        "tgz",
    ),
    "cocostuff": Form(_coco_ids, lambda split, image: f"{_stem(image)}.json", "zip", records=True),
}


class Submission:
    """Writes each image's file as the batches pass, and the archive at the end. Every rank holds one."""

    wants_confidence = False

    def __init__(self, name: str, shards: ShardSet, out: Path | None) -> None:
        """out: the archive; None: <name>-<split>.zip or .tgz here. UserError where the dataset does not fit."""
        self._form, facts = FORMS[name], shards.manifest
        self._split = shards.split
        self.path = out or Path(f"{name}-{shards.split}.{self._form.archive}")
        if self.path.suffix != f".{self._form.archive}":
            raise UserError(f"--submission-file {self.path}: {name} takes a .{self._form.archive}")
        self._values, self._colors = _tables(name, self._form, facts)
        self._images = _images(shards)
        self._work = self.path.with_name(self.path.name + ".files")

    def look(self, batch: Batch, predictions: torch.Tensor, confidence: torch.Tensor | None = None) -> None:
        """predictions: uint8 [N,H,W]."""
        for key, ids in zip(batch.keys, predictions.cpu().numpy(), strict=True):
            path = self._work / self._form.path(self._split, self._images[key])
            path.parent.mkdir(parents=True, exist_ok=True)
            if self._form.records:
                atomic.write_json(path, records(_image_id(self._images[key]), self._values[ids]), indent=None)
            else:
                save_mask(path, self._values[ids], self._colors)

    def finish(self, ranks: Ranks) -> None:
        """Packs the files of all ranks. Every rank calls it; the main one writes. Raises OSError."""
        ranks.gather(None)  # all have written
        if not ranks.is_main:
            return
        files = sorted(file for file in self._work.rglob("*") if file.is_file())
        try:
            with atomic.replacing(self.path) as partial:
                if self._form.records:
                    _pack_records(partial, files, f"stuff_{self._split}_segrail_results.json")
                elif self._form.archive == "zip":
                    _zip(partial, self._work, files)
                else:
                    _tgz(partial, self._work, files)
        finally:
            shutil.rmtree(self._work, ignore_errors=True)


@torch.inference_mode()
def predict(net: torch.nn.Module, loader: EvalLoader, ranks: Ranks, how: Inference, submission: Submission) -> int:
    """For splits without labels: shows the submission every batch; the number of images."""
    net.eval()
    quiet = None if ranks.is_main else True
    for batch in tqdm(loader, desc="predict", unit="batch", leave=False, dynamic_ncols=True, disable=quiet):
        logits = segment(net, batch.images.to(ranks.device, non_blocking=True), how)
        submission.look(batch, logits.argmax(dim=1).to(torch.uint8))
        ranks.tick()
    return len(loader.shards)


def records(image_id: int, categories: Array) -> list[dict[str, Any]]:
    """An image's stuff classes as COCO results, things as one. categories: uint8 [H, W] of 1..182."""
    merged = np.where(categories < _FIRST_STUFF, np.uint8(_OTHER), categories)
    return [
        {
            "image_id": image_id,
            "category_id": category,
            "segmentation": {"size": list(merged.shape), "counts": run_lengths(merged == category)},
        }
        for category in np.unique(merged).tolist()
    ]


def run_lengths(mask: NDArray[np.bool_]) -> str:
    """COCO's compressed run lengths of a mask [H, W]: columns first, each count less the one before the last, in six
    bits a character, five of the number and one that says whether more follow."""
    flat = mask.ravel(order="F")
    edges = np.concatenate([[0], np.flatnonzero(flat[1:] != flat[:-1]) + 1, [flat.size]])
    counts = ([0] if flat[0] else []) + np.diff(edges).tolist()
    text = []
    for number, count in enumerate(counts):
        value = count - counts[number - 2] if number > 2 else count
        more = True
        while more:
            bits = value & 31
            value >>= 5
            more = value != (-1 if bits & 16 else 0)
            text.append(chr(48 + (bits | 32 if more else bits)))
    return "".join(text)


def _tables(name: str, form: Form, facts: Manifest) -> tuple[Array, Array]:
    """Class -> value written, uint8 [256]; and the color of each value, uint8 [256, 3]."""
    classes = facts.num_classes
    ids = form.ids(classes)
    if not ids:
        raise UserError(
            f"--submission {name}: dataset {facts.name!r} has {classes} classes, which are not the benchmark's: "
            "evaluate on the dataset as `python -m ingest` makes it"
        )
    if facts.raw_ids and not form.records and facts.raw_ids != ids:
        raise UserError(
            f"--submission {name}: the masks of {facts.name!r} hold {facts.raw_ids[:4]}..., the benchmark's "
            f"{ids[:4]}...: evaluate on the benchmark's own dataset"
        )
    values, colors = np.zeros(256, np.uint8), np.zeros((256, 3), np.uint8)
    values[:classes] = ids
    colors[ids] = facts.palette
    return values, colors


def _images(shards: ShardSet) -> dict[str, str]:
    """Key -> the image's path in the raw dataset. UserError where the stored images are not of its size."""
    facts = shards.manifest
    found = {}
    for shard in facts.split(shards.split).shards:
        for sample in shards.record(shard.name).samples:
            if sample.offset is not None or facts.options.get("max_side"):
                raise UserError(
                    "--submission: the shards hold tiles or smaller images, the benchmark wants masks of the images' "
                    "own size: ingest without --tile and --max-side"
                )
            found[sample.key] = sample.image
    return found


def _image_id(image: str) -> int:
    digits = _stem(image).rpartition("_")[2]
    if not digits.isdigit():
        raise UserError(f"--submission cocostuff: {image} has no COCO image number in its name")
    return int(digits)


def _zip(path: Path, root: Path, files: Iterable[Path]) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:  # PNGs are packed already
        for file in files:
            archive.write(file, file.relative_to(root).as_posix())


def _tgz(path: Path, root: Path, files: Iterable[Path]) -> None:
    with tarfile.open(path, "w:gz", compresslevel=1) as archive:
        for file in files:
            archive.add(file, file.relative_to(root).as_posix())


def _pack_records(path: Path, files: Iterable[Path], name: str) -> None:
    """All records as one list, copied one image at a time."""
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open(name, "w", force_zip64=True) as target,
    ):
        separator = b"["
        for file in files:
            for record in json.loads(file.read_text()):
                target.write(separator + json.dumps(record).encode())
                separator = b",\n"
        target.write((b"[" if separator == b"[" else b"") + b"]" + os.linesep.encode())
