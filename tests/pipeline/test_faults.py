"""What is wrong with a recipe, an index, a tar or a file is named, with its remedy; nothing ends the process."""

from __future__ import annotations

import itertools
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from ingest.errors import UserError
from ingest.shards import manifest
from ingest.shards.reader import ShardSet
from pipeline.augment import Augment
from pipeline.loader import TrainLoader
from tests.loaders import eval_loader, train_loader
from tests.shard_folder import smooth_scene, write_shards

AUGMENT = Augment(crop=(32, 32), base_size=48)
COUNT = 12


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    scenes = [smooth_scene(50, 60, seed=i) for i in range(COUNT)]
    return write_shards(tmp_path_factory.mktemp("faults"), {"train": scenes}, ext="jpg")


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    """A copy to be damaged."""
    return Path(shutil.copytree(whole, tmp_path / "shards"))


def loader_of(folder: Path, **options) -> TrainLoader:
    return train_loader(ShardSet(folder, "train"), AUGMENT, 4, **options)


def flip(folder: Path, member: str, bits: list[int]) -> None:
    """Flips bits of a file inside its tar; `bits` count from the end of its first tenth on, modulo its length."""
    for tar in folder.glob("*.tar"):
        content = bytearray(tar.read_bytes())
        header = content.find(member.encode() + b"\0")
        if header >= 0:
            size = int(content[header + 124 : header + 135], 8)
            for bit in bits:
                place = size // 10 + bit // 8 % (size - size // 10)
                content[header + 512 + place] ^= 1 << bit % 8
            tar.write_bytes(content)
            return
    raise AssertionError(member)


# --- recipes ---


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("key", ["crop", "base_size", "scale", "rotate", "flip", "blur"])
def test_numbers_that_are_none_are_refused(key: str, bad: float) -> None:
    good = getattr(Augment(), key)
    value = (good[0], bad) if isinstance(good, tuple) else bad
    with pytest.raises(UserError, match=rf"augment\.{key} = .*(nan|inf).*: expected finite numbers"):
        Augment(**{key: value})


# --- files met while training ---


def test_flipped_bits_are_named_or_harmless(folder: Path, whole: Path) -> None:
    """A decoder may not notice a flipped bit, but when it does the sample, its shard and the remedy are named."""
    sound = {batch.keys[0]: batch for batch in itertools.islice(loader_one(whole), COUNT)}
    loud = 0
    random = np.random.default_rng(0)
    for trial in range(30):
        shutil.copytree(whole, folder, dirs_exist_ok=True)
        ext = "seg.png" if trial % 3 == 0 else "jpg"
        flip(folder, f"train-5.{ext}", random.integers(0, 10**6, 3).tolist())
        stream = loader_one(folder)
        try:
            made = {batch.keys[0]: batch for batch in itertools.islice(stream, COUNT)}
        except UserError as error:
            loud += 1
            assert "'train-5'" in str(error) and "train-000001.tar" in str(error)
            assert "python -m ingest verify" in str(error) and "is broken" in str(error)
            continue
        assert all((made[key].images == sound[key].images).all() for key in made if key != "train-5")
    assert loud >= 10


def loader_one(folder: Path, **options) -> TrainLoader:
    return train_loader(ShardSet(folder, "train"), AUGMENT, 1, **options)


@pytest.mark.parametrize("member", ["train-5.jpg", "train-5.seg.png"])
def test_skipping_counts_says_why_and_leaves_the_others_alone(folder: Path, whole: Path, member: str) -> None:
    flip(folder, member, list(range(0, 4000, 7)))
    with pytest.raises(UserError, match="'train-5'"):
        list(itertools.islice(loader_of(folder), 3))
    sound = list(itertools.islice(loader_of(whole), 6))
    for world in (1, 2):
        ranks = [
            train_loader(ShardSet(folder, "train"), AUGMENT, 4 // world, rank=rank, ranks=world, on_bad_sample="skip")
            for rank in range(world)
        ]
        made = [[*itertools.islice(loader, 6)] for loader in ranks]
        for step, expected in enumerate(sound):
            images = np.concatenate([batches[step].images.numpy() for batches in made])
            labels = np.concatenate([batches[step].labels.numpy() for batches in made])
            keys = [key for batches in made for key in batches[step].keys]
            skipped = {key: why for batches in made for key, why in batches[step].skipped.items()}
            assert keys == expected.keys
            assert list(skipped) == [key for key in keys if key == "train-5"]
            for i, key in enumerate(keys):
                if key == "train-5":
                    assert (labels[i] == 255).all() and len(np.unique(images[i].reshape(3, -1), axis=1)[0]) == 1
                    assert "is broken" in skipped[key]
                else:
                    np.testing.assert_array_equal(images[i], expected.images[i].numpy())
                    np.testing.assert_array_equal(labels[i], expected.labels[i].numpy())


def test_evaluation_never_skips(folder: Path) -> None:
    flip(folder, "train-7.jpg", list(range(0, 4000, 7)))
    with pytest.raises(UserError, match=r"'train-7' in .*train-000001\.tar"):
        list(eval_loader(ShardSet(folder, "train"), 2))


# --- shards that change under our feet ---


@pytest.mark.parametrize("how", ["deleted", "replaced"])
def test_an_open_shard_outlives_its_name(folder: Path, whole: Path, how: str) -> None:
    expected = [batch.images for batch in itertools.islice(loader_of(whole), 9)]
    loader = iter(loader_of(folder))
    made = [next(loader).images]
    for tar in folder.glob("*.tar"):
        if how == "deleted":
            tar.unlink()
        else:  # as rsync and ingest do: a new file under the old name
            tar.with_suffix(".new").write_bytes(b"other")
            os.replace(tar.with_suffix(".new"), tar)
    made += [batch.images for batch in itertools.islice(loader, 8)]
    assert all((a == b).all() for a, b in zip(made, expected, strict=True))
    loader.close()
    with pytest.raises(UserError, match=r"train-000000\.tar (is missing: restore it|has 5 bytes)"):
        ShardSet(folder, "train")


# --- indexes ---


def test_an_index_of_another_tar_is_refused(folder: Path) -> None:
    shutil.copy(folder / "train-000001.idx", folder / "train-000000.idx")
    with pytest.raises(UserError, match=r"train-000000\.idx has no 'train-0\.jpg'"):
        ShardSet(folder, "train")


@pytest.mark.parametrize("shift", [512, -512, 1])
def test_offsets_that_are_off_are_refused(folder: Path, shift: int) -> None:
    rewrite(folder, lambda offset, size: (offset + shift, size))
    with pytest.raises(UserError, match=r"train-000000\.(tar has another file than 'train-|idx puts 'train-)"):
        shards = ShardSet(folder, "train")
        shards.image(2)


@pytest.mark.parametrize(("offset", "size"), [(10**9, 100), (512, 10**9), (0, 100), (-512, 100), (512, 0), (512, -5)])
def test_places_outside_the_tar_are_refused_at_open(folder: Path, offset: int, size: int) -> None:
    rewrite(folder, lambda *_: (offset, size))
    with pytest.raises(UserError, match=r"train-000000\.idx puts 'train-0\.jpg' at bytes"):
        ShardSet(folder, "train")


def test_an_index_of_fewer_samples_is_refused(folder: Path) -> None:
    lines = (folder / "train-000000.idx").read_text().splitlines()
    (folder / "train-000000.idx").write_text("\n".join(["v1.2 3", *lines[1:4]]) + "\n")
    with pytest.raises(UserError, match=r"lists 3 samples, dataset\.json 4"):
        ShardSet(folder, "train")


@pytest.mark.parametrize("content", [b"", b"v1.2 x\n", b"\xff\xfe\x00", b"v1.1 4\n"])
def test_a_damaged_index_is_named(folder: Path, content: bytes) -> None:
    (folder / "train-000000.idx").write_bytes(content)
    with pytest.raises(UserError, match=r"train-000000\.idx is damaged"):
        ShardSet(folder, "train")


@pytest.mark.parametrize("ext", ["tar", "idx", "json"])
def test_a_missing_file_is_named(folder: Path, ext: str) -> None:
    (folder / f"train-000001.{ext}").unlink()
    with pytest.raises(UserError, match=rf"train-000001\.{ext} is missing: restore it"):
        ShardSet(folder, "train")


def test_a_folder_in_an_indexs_place_is_named(folder: Path) -> None:
    (folder / "train-000000.idx").unlink()
    (folder / "train-000000.idx").mkdir()
    with pytest.raises(UserError, match=r"train-000000\.idx is damaged"):
        ShardSet(folder, "train")


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("mean", [float("nan")] * 3, "mean = .*expected 3 numbers in 0..1"),
        ("mean", [0.5], "expected 3 numbers"),
        ("mean", None, "mean: .* found None"),
        ("std", [0.1, 0.1, 7.0], "std = .*expected 3 numbers in 0..1"),
        ("palette", [[1, 2, 3]], "1 colou?rs for 5 classes"),
        ("splits", {"train": {"samples": 1}}, r"splits\.train\.labeled is missing"),
    ],
)
def test_a_damaged_manifest_is_named(folder: Path, key: str, value: object, message: str) -> None:
    path = folder / "dataset.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
    with pytest.raises(UserError, match=rf"dataset\.json is damaged \(.*{message}.*ingest the dataset again"):
        ShardSet(folder, "train")


def test_samples_that_do_not_add_up_are_refused(folder: Path) -> None:
    path = folder / "dataset.json"
    path.write_text(path.read_text().replace(f'"samples": {COUNT}', '"samples": 7', 1))
    with pytest.raises(UserError, match="the shards of split 'train' do not add up to its 7 samples"):
        ShardSet(folder, "train")


@pytest.mark.parametrize("height", ["a", 0, -1, 1.5, None, True])
def test_sizes_that_are_none_are_refused(folder: Path, height: object) -> None:
    path = folder / "train-000000.json"
    record = json.loads(path.read_text())
    record["samples"][1]["height"] = height
    path.write_text(json.dumps(record))
    expected = r"train-000000\.json is damaged \((train-1 has .* pixels|samples\.1\.height: .*)\)"
    with pytest.raises(UserError, match=expected):
        ShardSet(folder, "train")
    path.write_text("[]")
    with pytest.raises(UserError, match=r"train-000000\.json is damaged"):
        ShardSet(folder, "train")


@pytest.mark.parametrize("stream", ["train", "eval"])
def test_an_image_of_another_size_than_recorded_is_refused(folder: Path, stream: str) -> None:
    """Its crops would be of other places than the plan says."""
    path = folder / "train-000000.json"
    record = json.loads(path.read_text())
    record["samples"][1]["height"] += 1
    path.write_text(json.dumps(record))
    shards = ShardSet(folder, "train")
    batches = train_loader(shards, AUGMENT, 4) if stream == "train" else eval_loader(shards, 1)
    with pytest.raises(UserError, match=r"sample 'train-1' .* is broken"):
        list(itertools.islice(batches, COUNT))


def test_a_record_of_another_shard_is_refused(folder: Path) -> None:
    record = manifest.load_shard(folder, "train-000001")
    manifest.save_shard(manifest.ShardRecord(**{**record.__dict__, "name": "train-000000"}), folder)
    with pytest.raises(UserError, match=r"train-000000\.idx has no 'train-4\.jpg'"):
        ShardSet(folder, "train")


def rewrite(folder: Path, place) -> None:
    """Moves every file of the first shard's index to place(offset, size)."""
    index = folder / "train-000000.idx"
    header, *lines = index.read_text().splitlines()
    moved = []
    for line in lines:
        words = line.split()
        for i in range(0, len(words), 4):
            offset, size = place(int(words[i + 1]), int(words[i + 2]))
            words[i + 1 : i + 3] = [str(offset), str(size)]
        moved.append(" ".join(words))
    index.write_text("\n".join([header, *moved]) + "\n")
