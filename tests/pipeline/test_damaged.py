"""Damaged files in a stream: named or skipped alike on both devices and every rank, and too many stop the run."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from click.testing import CliRunner

from ingest.__main__ import main
from ingest.errors import UserError
from ingest.shards.reader import ShardSet
from pipeline import decode
from pipeline.augment import Augment
from pipeline.batch import Batch
from pipeline.damage import ENOUGH, Damage
from pipeline.feeding import Feeding
from pipeline.gpu import batches as gpu
from pipeline.gpu import feed
from pipeline.request import Request
from tests.loaders import eval_loader, train_loader
from tests.shard_folder import encode, smooth_scene, write_shards


def as_array(file: bytes) -> np.ndarray:
    return np.frombuffer(file, dtype=np.uint8)


@pytest.fixture(scope="module")
def damaged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """12 images; train-2 has a hole in its scan, train-7's label is cut."""
    scenes = [smooth_scene(40, 56, i) for i in range(12)]
    folder = write_shards(tmp_path_factory.mktemp("damaged"), {"train": scenes}, ext="jpg")
    for shard, name, at in ((0, b"train-2.jpg\0", 0), (1, b"train-7.seg.png\0", 40)):
        tar = folder / f"train-{shard:06d}.tar"
        content = bytearray(tar.read_bytes())
        start = content.find(name) + 512 + at
        content[start : start + 64] = bytes(64)
        tar.write_bytes(content)
    return folder


AUGMENT = Augment(crop=(32, 32), base_size=48)


@pytest.mark.parametrize("device", ["cpu", "dali"])
@pytest.mark.parametrize("world", [1, 3])
def test_skipping_is_the_same_on_every_rank(damaged: Path, device: str, world: int) -> None:
    shards = ShardSet(damaged, "train")
    streams = []
    for rank in range(world):
        loader = train_loader(
            shards, AUGMENT, 6 // world, seed=1, rank=rank, ranks=world, on_bad_sample="skip", threads=2
        )
        batches = iter(loader)
        if device == "dali":  # the GPU's way, with its graph on the CPU
            batches = gpu.crops(shards, loader._requests(), loader.stream, loader.feeding)
        streams.append(list(itertools.islice(batches, 4)))  # two epochs
    for step in zip(*streams, strict=True):
        for batch in step:
            bad = {"train-2", "train-7"} & set(batch.keys)
            assert set(batch.skipped) == bad
            for i, key in enumerate(batch.keys):
                blank = bool((batch.labels[i] == 255).all())
                assert blank == (key in bad)
                if blank:
                    assert (batch.images[i].permute(1, 2, 0).numpy() == [102, 128, 153]).all()
        keys = sorted(key for batch in step for key in batch.keys)
        assert len(set(keys)) == 6
    assert "image" in next(b.skipped["train-2"] for s in streams for b in s if "train-2" in b.skipped)


def test_an_error_names_shard_key_and_remedy(damaged: Path) -> None:
    shards = ShardSet(damaged, "train")
    with pytest.raises(UserError, match=r"(train-2|train-7)' in .*train-00000[01]\.tar .*on_bad_sample=skip"):
        list(itertools.islice(train_loader(shards, AUGMENT, 6), 2))
    with pytest.raises(UserError, match="is broken"):
        list(eval_loader(shards, 2))
    requests = iter([Request(np.arange(4))])
    with pytest.raises(UserError, match="image of sample 'train-2'"):
        list(gpu.whole_images(shards, requests, 4, Feeding(threads=1)))


@pytest.mark.parametrize("stored", ["with sums", "without"])
def test_batches_before_a_broken_one_are_handed_out_first(
    damaged: Path, monkeypatch: pytest.MonkeyPatch, stored: str
) -> None:
    """DALI asks for its inputs some batches ahead, and meets the error there."""
    shards = ShardSet(damaged, "train")
    if stored == "with sums":  # as if the CRC of train-7's label had told
        monkeypatch.setattr(shards, "damaged", lambda sample, *_: "label" if sample == 7 else None)
    order = [0, 1, 3, 4, 5, 6, 7, 8]
    requests = iter([Request(np.array([sample])) for sample in order])
    batches = gpu.whole_images(shards, requests, 1, Feeding(threads=1, prefetch=3))
    assert [next(batches).keys for _ in order[:6]] == [[f"train-{sample}"] for sample in order[:6]]
    with pytest.raises(UserError, match="label of sample 'train-7'"):
        next(batches)


def test_what_only_dali_refuses_is_told_with_the_candidates(damaged: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "_complaint", lambda _: None)
    monkeypatch.setattr(decode, "check_jpeg", lambda *_: None)
    shards = ShardSet(damaged, "train")
    requests = iter([Request(np.array([1, 2]))])
    with pytest.raises(UserError, match=r"DALI fails on one of the samples train-1, train-2 of .*data\.device=cpu"):
        list(gpu.whole_images(shards, requests, 2, Feeding(threads=1)))


def test_complaints_are_the_same_on_every_rank() -> None:
    image, ids = smooth_scene(40, 56, 0)
    assert feed._complaint(as_array(encode(image, "jpg"))) is None
    assert feed._complaint(as_array(encode(ids, "png"))) is None
    first, second = (feed._complaint(as_array(b"nonsense")) for _ in range(2))
    assert first == second == "no image file"
    assert feed._complaint(as_array(encode(image, "jpg")[:300]))


def test_a_size_unlike_the_record_is_named(tmp_path: Path) -> None:
    folder = write_shards(tmp_path, {"train": [smooth_scene(40, 56, 0)]}, ext="png")
    record = folder / "train-000000.json"
    record.write_text(record.read_text().replace('"width": 56', '"width": 57'))
    with pytest.raises(UserError, match=r"train-0' in .*56x40 pixels, the shard's record 57x40"):
        list(eval_loader(ShardSet(folder, "train")))


@pytest.mark.parametrize("device", ["cpu", "dali"])
def test_a_flipped_bit_that_decodes_is_found_by_the_sum(tmp_path: Path, device: str) -> None:
    """As ingest writes them, samples carry a CRC: of 20 flips in JPEGs, none passes for a picture."""
    raw = tmp_path / "raw"
    for part in ("images", "masks"):
        (raw / part).mkdir(parents=True)
    for i in range(4):
        image, ids = smooth_scene(64, 64, seed=i)
        (raw / f"images/{i}.jpg").write_bytes(encode(image, "jpg"))
        (raw / f"masks/{i}.png").write_bytes(encode(ids, "png"))
    spec = tmp_path / "spec.yaml"
    names = [f"class{i}" for i in range(5)]
    splits = {"train": {"images": "images/*.jpg", "labels": "masks/*.png"}}
    spec.write_text(yaml.safe_dump({"name": "flips", "classes": names, "splits": splits}))
    arguments = ["folder", str(raw), "--spec", str(spec), "--out", str(tmp_path / "shards"), "--workers", "1"]
    assert CliRunner().invoke(main, arguments).exit_code == 0
    tar = tmp_path / "shards/train-000000.tar"
    whole = tar.read_bytes()
    start = whole.find(b"2.jpg\0") + 512
    size = int(whole[start - 512 + 124 : start - 512 + 135], 8)
    silent = 0
    for flip in range(20):
        content = bytearray(whole)
        content[start + size * (flip + 1) // 22] ^= 1 << flip % 8
        tar.write_bytes(content)
        try:
            decode.image(as_array(bytes(content[start : start + size])))
            silent += 1
        except decode.DecodeError:
            pass
        shards = ShardSet(tmp_path / "shards", "train")
        with pytest.raises(UserError, match=r"image of sample '2' in .*train-000000.tar is broken \(its bytes are not"):
            if device == "cpu":
                next(iter(train_loader(shards, AUGMENT, 4, threads=1)))
            else:
                next(gpu.whole_images(shards, iter([Request(np.arange(4))]), 4, Feeding(threads=1)))
    assert silent > 5  # the decoder alone would have let these pass


def test_many_broken_files_leave_the_stream_in_order(tmp_path: Path) -> None:
    """DALI fails with several batches under way, and again before all of those are done."""
    folder = write_shards(tmp_path, {"train": [smooth_scene(40, 56, i) for i in range(12)]}, ext="jpg")
    for number in (0, 1, 3, 4, 6, 9):
        tar = folder / f"train-{number // 4:06d}.tar"
        content = bytearray(tar.read_bytes())
        start = content.find(f"train-{number}.jpg\0".encode()) + 512
        content[start : start + 64] = bytes(64)
        tar.write_bytes(content)
    loaders = [
        train_loader(ShardSet(folder, "train"), AUGMENT, 2, seed=5, on_bad_sample="skip", threads=2) for _ in range(2)
    ]
    other = loaders[1]
    dali = gpu.crops(other.shards, other._requests(), other.stream, other.feeding)
    for ours, theirs in zip(itertools.islice(loaders[0], 12), itertools.islice(dali, 12), strict=True):
        assert theirs.keys == ours.keys and set(theirs.skipped) == set(ours.skipped)


@pytest.mark.parametrize(("limit", "stops"), [(0.1, True), (0.16, True), (0.17, False), (1.0, False)])
def test_too_many_damaged_samples_stop_the_run(damaged: Path, limit: float, stops: bool) -> None:
    """2 of 12 are damaged: within an epoch that is known."""
    shards = ShardSet(damaged, "train")
    loader = train_loader(shards, AUGMENT, 3, on_bad_sample="skip", max_bad_share=limit)
    if not stops:
        assert sum(len(batch.skipped) for batch in itertools.islice(loader, 8)) == 4
        return
    with pytest.raises(UserError, match=rf"2 of the 12 samples of split 'train' .* data.max_bad_share = {limit:g} "):
        list(itertools.islice(loader, 4))
    assert loader.epoch == 0


def test_of_a_large_split_a_part_is_enough_to_stop(damaged: Path) -> None:
    class Large(ShardSet):
        def __len__(self) -> int:
            return 10**6

    def batch(bad: int) -> Batch:
        keys = [f"{number}" for number in range(10)]
        return Batch(torch.empty(0), None, keys, dict.fromkeys(keys[:bad], "broken"))

    few, many = Damage(Large(damaged, "train"), 0.3), Damage(Large(damaged, "train"), 0.3)
    for _ in range(100):
        few.add(batch(2))
    with pytest.raises(UserError, match=rf"{ENOUGH} of the first 100 samples .* allows; the last: 0 \(broken\)"):
        for _ in range(11):
            many.add(batch(5))
