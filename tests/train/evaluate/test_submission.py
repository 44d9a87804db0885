"""Submissions: put where the benchmark's own masks lie and ingested by the adapters, they are the predictions again."""

from __future__ import annotations

import json
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ingest import writer
from ingest.datasets import ade20k, cityscapes, cocostuff, voc
from ingest.errors import UserError
from ingest.scenes import write as draw
from ingest.shards.reader import ShardSet
from pipeline import decode
from pipeline.batch import Batch
from tests.shard_folder import smooth_scene, write_shards
from train.distributed import Ranks
from train.evaluate.submission import Submission, records, run_lengths

ALONE = Ranks(0, 1, 0, 1, torch.device("cpu"))


def voc_place(raw: Path, name: str) -> Path:
    return next(raw.rglob("SegmentationClass")) / Path(name).name


def cityscapes_place(raw: Path, name: str) -> Path:
    stem = name.removesuffix("_pred_labelIds.png")
    return next(raw.rglob(f"{stem}_gtFine_labelIds.png"))


def ade20k_place(raw: Path, name: str) -> Path:
    return next(raw.rglob("annotations")) / "validation" / name


CASES: dict[str, tuple[dict[str, int], Any, Callable[[Path, str], Path]]] = {
    "voc": ({"train": 1, "val": 4}, voc, voc_place),
    "cityscapes": ({"train": 1, "val": 3}, cityscapes, cityscapes_place),
    "ade20k": ({"train": 1, "val": 3}, ade20k, ade20k_place),
}


def predicted(shards: ShardSet) -> dict[str, np.ndarray]:
    """Class ids of every sample, all classes in use."""
    random = np.random.default_rng(0)
    sizes = shards.sizes_hw.tolist()
    classes = shards.manifest.num_classes
    return {
        key: random.integers(0, classes, size).astype(np.uint8) for key, size in zip(shards.keys, sizes, strict=True)
    }


def submit(name: str, shards: ShardSet, out: Path | None) -> tuple[Path, dict[str, np.ndarray]]:
    submission, masks = Submission(name, shards, out), predicted(shards)
    for key, mask in masks.items():
        images = torch.zeros(1, 3, *mask.shape, dtype=torch.uint8)
        submission.look(Batch(images, None, [key]), torch.from_numpy(mask)[None])
    submission.finish(ALONE)
    return submission.path, masks


def ingested(raw: Path, module: Any, out: Path) -> ShardSet:
    writer.write(module.find(raw), out, writer.Settings(shard_size=10**9, seed=0, command="", options={}))
    return ShardSet(out, "val")


@pytest.mark.parametrize("name", CASES)
def test_masks_come_back_through_the_adapters(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    counts, module, place = CASES[name]
    raw = draw(tmp_path / "raw", name, counts, (64, 96), workers=1, archives=False)
    shards = ingested(raw, module, tmp_path / "before")
    path, masks = submit(name, shards, None)
    assert path.name == f"{name}-val.{'tgz' if name == 'voc' else 'zip'}"
    unpacked = tmp_path / "unpacked"
    if path.suffix == ".zip":
        zipfile.ZipFile(path).extractall(unpacked)
    else:
        with tarfile.open(path) as archive:
            archive.extractall(unpacked, filter="data")
    files = [file for file in unpacked.rglob("*") if file.is_file()]
    assert len(files) == len(masks)
    if name == "voc":
        assert {file.parent.relative_to(unpacked).as_posix() for file in files} == {
            "results/VOC2012/Segmentation/comp6_val_cls"
        }
    for file in files:
        target = place(raw, file.name)
        assert target.exists(), "the benchmark has a mask of that name"
        target.write_bytes(file.read_bytes())
    after = ingested(raw, module, tmp_path / "after")
    assert set(after.keys) == set(masks)
    for sample, key in enumerate(after.keys):
        assert (decode.label(after.label(sample)) == masks[key]).all()
    assert not (tmp_path / f"{path.name}.files").exists()


def test_coco_records_hold_stuff_and_other(tmp_path: Path) -> None:
    raw = draw(tmp_path / "raw", "cocostuff164k", {"train": 1, "val": 2}, (64, 96), workers=1, archives=False)
    shards = ingested(raw, cocostuff, tmp_path / "shards")
    path, masks = submit("cocostuff", shards, tmp_path / "s.zip")
    (name,) = zipfile.ZipFile(path).namelist()
    assert name == "stuff_val_segrail_results.json"
    found = json.loads(zipfile.ZipFile(path).read(name))
    assert {record["image_id"] for record in found} == {int(key.split("-")[0]) for key in masks}
    categories = {record["category_id"] for record in found}
    assert min(categories) == 92 and max(categories) == 183 and not categories & {12, 26, 91}
    coder = pytest.importorskip("pycocotools.mask")
    for key, mask in masks.items():
        total = np.zeros(mask.shape, np.int64)
        for record in found:
            if record["image_id"] == int(key.split("-")[0]):
                total += coder.decode(record["segmentation"]).astype(np.int64) * record["category_id"]
        ids = np.array([c for c in range(1, 183) if c not in cocostuff.ABSENT])[mask]
        assert (total == np.where(ids < 92, 183, ids)).all()


@pytest.mark.peers
def test_run_lengths_are_pycocotools() -> None:
    coder = pytest.importorskip("pycocotools.mask")
    random = np.random.default_rng(0)
    for share in (0.0, 0.02, 0.5, 0.98, 1.0):
        mask = random.random((70, 130)) < share
        mask[20:50, 30:100] = share > 0.4
        expected = coder.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"].decode()
        assert run_lengths(mask) == expected


def test_records_merge_the_things() -> None:
    found = records(7, np.array([[1, 90, 92], [150, 92, 5]], np.uint8))
    assert [(one["image_id"], one["category_id"]) for one in found] == [(7, 92), (7, 150), (7, 183)]


def test_other_datasets_are_refused(tmp_path: Path) -> None:
    shards = ShardSet(write_shards(tmp_path / "s", {"val": [smooth_scene(32, 40, 0)]}), "val")
    with pytest.raises(UserError, match="has 5 classes, which are not the benchmark's"):
        Submission("voc", shards, None)
    with pytest.raises(UserError, match=r"takes a \.tgz"):
        Submission("voc", shards, tmp_path / "x.zip")
