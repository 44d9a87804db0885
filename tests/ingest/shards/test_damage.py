"""Whatever is changed in a shard folder, `verify` finds it; and what it lets pass, training reads."""

from __future__ import annotations

import dataclasses
import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from ingest import writer
from ingest.datasets.folder import find, load_spec
from ingest.errors import UserError
from ingest.pixels.images import Format
from ingest.shards import manifest
from ingest.shards.reader import ShardSet
from ingest.verify import verify
from tests.shard_folder import as_schema_1


def make(raw: Path, out: Path, form: str = "keep") -> Path:
    found = find(raw, load_spec(str(raw / "dataset.yaml")))
    images = Format(form)
    writer.write(found, out, writer.Settings(shard_size=10_000, seed=0, command="", options={}, images=images))
    return out


@pytest.fixture
def shards(raw: Path, tmp_path: Path) -> Path:
    return make(raw, tmp_path / "out")


def damages(content: bytes, chance: random.Random) -> bytes:
    """One byte changed; now and then some zeroed, some cut off, some added."""
    at = chance.randrange(len(content))
    kind = chance.random()
    if kind < 0.85:
        return content[:at] + bytes([content[at] ^ chance.randrange(1, 256)]) + content[at + 1 :]
    if kind < 0.9:
        return content[:at]
    if kind < 0.95:
        return content + b"\0" * chance.randrange(1, 600)
    end = min(len(content), at + chance.randrange(1, 600))
    zeroed = content[:at] + b"\0" * (end - at) + content[end:]
    return zeroed if zeroed != content else content[:-1]


@pytest.mark.parametrize(
    ("form", "trials"),
    [
        ("keep", 100),
        ("raw", 60),
        *(pytest.param(form, 1500, marks=[pytest.mark.slow, pytest.mark.timeout(1200)]) for form in ("keep", "raw")),
    ],
)
def test_any_changed_byte_is_found(raw: Path, tmp_path: Path, form: str, trials: int) -> None:
    out = make(raw, tmp_path / "out", form)
    verify(out)
    chance, paths, missed = random.Random(trials), sorted(out.iterdir()), []
    for trial in range(trials):
        path = paths[trial % len(paths)]
        whole = path.read_bytes()
        damaged = damages(whole, chance)
        path.write_bytes(damaged)
        try:
            verify(out)
            missed.append(f"{path.name}: {[i for i, (a, b) in enumerate(zip(whole, damaged, strict=False)) if a != b]}")
        except UserError as error:
            assert "\n" not in str(error) and path.name.partition(".")[0] in str(error), error
        path.write_bytes(whole)
    assert not missed
    verify(out, deep=True)


def edit(**changes: object) -> Callable[[Path], None]:
    """dataset.json with other values, as a hand with an editor leaves it."""

    def change(folder: Path) -> None:
        path = folder / "dataset.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return change


def in_split(change: Callable[[dict], None]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        path = folder / "dataset.json"
        facts = json.loads(path.read_text())
        change(facts["splits"]["train"])
        path.write_text(json.dumps(facts))

    return apply


CHANGES = {
    "mean": edit(mean=[0.9, 0.9, 0.9]),
    "std": edit(std=[0.0, 0.0, 0.0]),
    "classes swapped": edit(classes=["road", "sky", "car"]),
    "classes renamed": edit(classes=["sky", "street", "car"]),
    "palette of strings": edit(palette=["red", "green", "blue"]),
    "palette out of range": edit(palette=[[0, 0, 300]] * 3),
    "ignore": edit(ignore=300),
    "command": edit(command="python -m ingest other"),
    "options": edit(options={"seed": 7}),
    "shards reordered": in_split(lambda split: split["shards"].reverse()),
    "a shard twice": in_split(
        lambda split: split.update(
            shards=[*split["shards"], split["shards"][0]], samples=split["samples"] + split["shards"][0]["samples"]
        )
    ),
    "class pixels": in_split(lambda split: split["class_pixels"].__setitem__(0, 5)),
    "image size": in_split(lambda split: split["image_size"]["min"].__setitem__(0, 5)),
    "labeled": in_split(lambda split: split.update(labeled=False)),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_changed_manifest_is_found_by_verify_and_by_training(shards: Path, name: str) -> None:
    CHANGES[name](shards)
    with pytest.raises(UserError, match=r"dataset\.json is"):
        verify(shards)
    with pytest.raises(UserError, match=r"dataset\.json is"):
        ShardSet(shards, "train")


# What nothing in a folder of schema 1 can tell: it has no sums of its json files.
UNKNOWABLE = {"classes swapped", "classes renamed", "command", "options"}


@pytest.mark.parametrize("name", sorted(set(CHANGES) - UNKNOWABLE))
def test_in_schema_1_what_can_be_measured_is(shards: Path, name: str) -> None:
    verify(as_schema_1(shards))
    CHANGES[name](shards)
    with pytest.raises(UserError):
        verify(shards)


def resigned(folder: Path, change: Callable[[manifest.ShardRecord], manifest.ShardRecord]) -> None:
    """A record changed, with every sum in order: what a faulty writer would leave."""
    manifest.save_shard(change(manifest.load_shard(folder, "train-000000")), folder)
    facts = manifest.load(folder)
    split = facts.splits["train"]
    digest = manifest.record_sha256(folder, "train-000000")
    shards = [dataclasses.replace(split.shards[0], record_sha256=digest), *split.shards[1:]]
    splits = facts.splits | {"train": dataclasses.replace(split, shards=shards)}
    manifest.save(dataclasses.replace(facts, splits=splits), folder)


@pytest.mark.parametrize("field", ["image_crc32", "label_crc32", "image_at", "label_bytes", "key", "height"])
def test_a_record_that_says_otherwise_than_the_tar_is_found(shards: Path, field: str) -> None:
    def change(record: manifest.ShardRecord) -> manifest.ShardRecord:
        value = getattr(record.samples[0], field)
        other = "other" if field == "key" else value + 1
        return dataclasses.replace(
            record, samples=[dataclasses.replace(record.samples[0], **{field: other}), *record.samples[1:]]
        )

    resigned(shards, change)
    with pytest.raises(UserError, match=r"train-000000\.json"):
        verify(shards)


def test_a_flipped_digit_of_a_crc_is_found_in_schema_1(shards: Path) -> None:
    """Training would name a sound image as broken."""
    as_schema_1(shards)
    path = shards / "train-000000.json"
    raw = json.loads(path.read_text())
    raw["samples"][0]["image_crc32"] ^= 1
    path.write_text(json.dumps(raw))
    opened = ShardSet(shards, "train")
    assert opened.damaged(0, opened.image(0)) == "image"
    with pytest.raises(UserError, match=r"train-000000\.json says image_crc32 = "):
        verify(shards)


@pytest.mark.parametrize("name", ["train.index.npz", "train-000000.idx", "train-000000.json", "train-000000.tar"])
def test_files_of_another_ingest_are_found(raw: Path, shards: Path, tmp_path: Path, name: str) -> None:
    shutil.copy(make(raw, tmp_path / "other", "png") / name, shards / name)
    with pytest.raises(UserError, match=name.replace(".", r"\.")):
        verify(shards)


def test_an_index_that_was_changed_is_refused_by_training_or_is_as_good(shards: Path) -> None:
    """Every byte of its numbers is summed; only what fills up between them may differ."""
    path, chance = shards / "train.index.npz", random.Random(1)
    whole, facts = path.read_bytes(), manifest.load(shards)
    expected = [
        (ShardSet(shards, "train").image(i).tobytes(), key) for i, key in enumerate(ShardSet(shards, "train").keys)
    ]
    refused = 0
    for _ in range(60):
        path.write_bytes(damages(whole, chance))
        try:
            opened = ShardSet(shards, "train")
            assert [(opened.image(i).tobytes(), key) for i, key in enumerate(opened.keys)] == expected
            opened.class_pixels_per_sample()
        except UserError as error:
            assert "train.index.npz" in str(error)
            refused += 1
        with pytest.raises(UserError, match=r"train\.index\.npz"):
            verify(shards)
    assert refused > 30 and facts.splits["train"].index is not None
