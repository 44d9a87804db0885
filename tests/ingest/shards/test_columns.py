"""The columns beside the shards: what they say is what the labels and the tars hold; old folders read as new ones."""

from __future__ import annotations

import dataclasses
import io
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ingest import writer
from ingest.datasets.folder import find, load_spec
from ingest.errors import UserError
from ingest.reindex import reindex
from ingest.shards import areas, columns, columns_writer, manifest, rows
from ingest.shards.reader import ShardSet
from ingest.verify import verify
from tests.shard_folder import as_schema_1, smooth_scene, write_shards


@pytest.fixture
def shards(raw: Path, tmp_path: Path) -> Path:
    """Several shards a split."""
    found = find(raw, load_spec(str(raw / "dataset.yaml")))
    writer.write(found, tmp_path / "out", writer.Settings(shard_size=10_000, seed=0, command="", options={}))
    return tmp_path / "out"


def files(folder: Path) -> dict[str, object]:
    """Their bytes; of dataset.json all but what schema 1 does not say, and its sum with that."""
    found: dict[str, object] = {path.name: path.read_bytes() for path in folder.iterdir()}
    return found | {"dataset.json": dataclasses.replace(manifest.load(folder), pixels=None, raw_ids=None)}


# --- areas ---


@pytest.mark.parametrize("hw", [(64, 80), (61, 83), (8, 8), (5, 3), (1, 1), (1, 100), (200, 7)])
def test_areas_are_those_counted_pixel_by_pixel(hw: tuple[int, int]) -> None:
    label = np.random.default_rng(0).choice(np.array([0, 3, 7, 255], np.uint8), hw, p=[0.7, 0.2, 0.09, 0.01])
    found = areas.measure(label)
    assert found.ids.tolist() == sorted(set(label.ravel().tolist()))
    rows_of = [i for i in range(8) for _ in range(areas.edges(hw[0])[i], areas.edges(hw[0])[i + 1])]
    columns_of = [i for i in range(8) for _ in range(areas.edges(hw[1])[i], areas.edges(hw[1])[i + 1])]
    assert (len(rows_of), len(columns_of)) == hw
    for value, pixels, grid in zip(found.ids, found.pixels, found.grids, strict=True):
        assert pixels == (label == value).sum()
        count, size = np.zeros((8, 8), int), np.zeros((8, 8), int)
        for y in range(hw[0]):
            for x in range(hw[1]):
                count[rows_of[y], columns_of[x]] += label[y, x] == value
                size[rows_of[y], columns_of[x]] += 1
        np.testing.assert_array_equal(grid, np.ceil(255 * count / np.maximum(size, 1)))
        assert ((grid > 0) == (count > 0)).all()
    again = areas.from_text(areas.to_text(found))
    assert all((getattr(again, name) == getattr(found, name)).all() for name in ("ids", "pixels", "grids"))


@pytest.mark.parametrize("entries", [[(0, 1, "AAAA")], [(300, 1, "")], [(1, 0, "")], [(2, 1, ""), (1, 1, "")]])
def test_areas_that_cannot_be_are_refused(entries: list[tuple[int, int, str]]) -> None:
    with pytest.raises(ValueError):
        areas.from_text(entries)


# --- what the index says ---


def test_any_tool_reads_the_index(shards: Path) -> None:
    opened = ShardSet(shards, "train")
    with np.load(shards / "train.index.npz") as found:
        assert set(found) == set(columns.NAMES)
        starts = np.concatenate([[0], found["key_end"][:-1]])
        text = found["key_text"].tobytes().decode()
        assert [text[a:b] for a, b in zip(starts, found["key_end"], strict=True)] == list(opened.keys)
        np.testing.assert_array_equal(found["size_hw"], opened.sizes_hw)


def test_numbers_begin_where_any_processor_takes_them(shards: Path) -> None:
    reader = columns.IndexReader(shards / "train.index.npz", manifest.load(shards).splits["train"].index)
    start = np.frombuffer(reader._content, np.uint8).ctypes.data
    for name in columns.NAMES:
        assert (getattr(reader.columns, name).ctypes.data - start) % 64 == 0


def test_classes_per_sample_are_those_of_the_labels(shards: Path) -> None:
    opened = ShardSet(shards, "train")
    per_sample = opened.class_pixels_per_sample()
    assert per_sample.shape == (10, 3) and per_sample.dtype == np.uint32
    shows = [set() for _ in range(3)]
    for sample in range(len(opened)):
        label = np.asarray(Image.open(io.BytesIO(opened.label(sample))))
        np.testing.assert_array_equal(per_sample[sample], np.bincount(label.ravel(), minlength=256)[:3])
        found, expected = opened.areas(sample), areas.measure(label)
        np.testing.assert_array_equal(found.ids, expected.ids)
        np.testing.assert_array_equal(found.grids, expected.grids)
        for value in set(label.ravel().tolist()) - {255}:
            shows[value].add(sample)
    facts = opened.manifest.splits["train"]
    np.testing.assert_array_equal(per_sample.sum(axis=0), facts.class_pixels)
    assert facts.class_images == [len(one) for one in shows]
    assert facts.class_image_pixels == [24 * 32 * len(one) for one in shows]
    assert [opened.samples_with(value).tolist() for value in range(3)] == [sorted(one) for one in shows]


def test_a_class_that_few_show(tmp_path: Path) -> None:
    pairs = [smooth_scene(40, 50, seed) for seed in range(6)]
    pairs[4][1][:] = 1
    pairs[2][1][:] = 255
    opened = ShardSet(write_shards(tmp_path / "s", {"train": pairs}, schema=2), "train")
    assert 4 not in opened.samples_with(0) and 2 not in opened.samples_with(1) and 4 in opened.samples_with(1)
    assert opened.class_pixels_per_sample()[4].tolist() == [0, 2000, 0, 0, 0]
    assert opened.class_pixels_per_sample()[2].tolist() == [0] * 5 and opened.areas(2).ids.tolist() == [255]


# --- old folders ---


def test_a_folder_of_schema_1_reads_as_before(shards: Path, tmp_path: Path) -> None:
    old = as_schema_1(Path(shutil.copytree(shards, tmp_path / "old")))
    new_set, old_set = ShardSet(shards, "train"), ShardSet(old, "train")
    assert old_set.manifest.schema == 1 and list(old_set.keys) == list(new_set.keys)
    np.testing.assert_array_equal(old_set.sizes_hw, new_set.sizes_hw)
    np.testing.assert_array_equal(old_set.file_sizes, new_set.file_sizes)
    for sample in range(len(new_set)):
        assert old_set.image(sample).tobytes() == new_set.image(sample).tobytes()
        assert old_set.label(sample).tobytes() == new_set.label(sample).tobytes()
        assert old_set.damaged(sample, new_set.image(sample)[:-1]) == "image"
    verify(old, deep=True)
    with pytest.raises(UserError, match=r"before classes were recorded per image.*ingest reindex"):
        old_set.class_pixels_per_sample()


def test_reindex_gives_what_ingest_would_have(shards: Path, tmp_path: Path) -> None:
    old = as_schema_1(Path(shutil.copytree(shards, tmp_path / "old")))
    reindex(old)
    assert files(old) == files(shards)
    reindex(old)
    assert files(old) == files(shards)


def test_reindex_goes_on_where_it_was_killed(shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = as_schema_1(Path(shutil.copytree(shards, tmp_path / "old")))
    real, made = manifest.save_shard, []

    def killed(record: manifest.ShardRecord, folder: Path) -> None:
        if len(made) == 2:
            raise KeyboardInterrupt
        made.append(record.name)
        real(record, folder)

    monkeypatch.setattr(manifest, "save_shard", killed)
    with pytest.raises(KeyboardInterrupt):
        reindex(old)
    assert len(ShardSet(old, "train")) == 10  # still a folder of schema 1 that can be trained on
    made.clear()
    monkeypatch.setattr(manifest, "save_shard", lambda record, folder: (made.append(record.name), real(record, folder)))
    reindex(old)
    assert len(made) == len(list(shards.glob("*.tar"))) - 2 and files(old) == files(shards)


def test_reindex_makes_lost_indexes_anew_and_mends_no_tar(shards: Path) -> None:
    before = files(shards)
    (shards / "train.index.npz").unlink()
    (shards / "val-000000.idx").unlink()
    with pytest.raises(UserError, match=r"train\.index\.npz is missing.*reindex"):
        ShardSet(shards, "train")
    reindex(shards)
    assert files(shards) == before
    tar = shards / "train-000000.tar"
    tar.write_bytes(tar.read_bytes()[:-1] + b"x")
    with pytest.raises(UserError, match=r"train-000000\.tar is not the file that was ingested"):
        reindex(shards)


def test_an_edited_manifest_is_signed_only_on_demand(shards: Path) -> None:
    path = shards / "dataset.json"
    path.write_text(path.read_text().replace('"road"', '"street"'))
    for action in (lambda: ShardSet(shards, "train"), lambda: verify(shards), lambda: reindex(shards)):
        with pytest.raises(UserError, match=r"dataset\.json is not as ingest wrote it .*--edited"):
            action()
    reindex(shards, edited=True)
    verify(shards, deep=True)
    assert ShardSet(shards, "train").manifest.classes[1] == "street"


# --- raw pixels ---


def test_rows_are_read_apart_and_checked(tmp_path: Path) -> None:
    pairs = [smooth_scene(height, 37, seed) for seed, height in enumerate((100, 32, 31, 64, 1))]
    folder = write_shards(tmp_path / "s", {"train": pairs}, schema=2, ext="npy")
    opened = ShardSet(folder, "train")
    assert opened.raw
    for sample, (image, _) in enumerate(pairs):
        np.testing.assert_array_equal(opened.image(sample), image)
        for first, last in ((0, 1), (0, len(image)), (len(image) - 1, len(image)), (40, 70)):
            if last <= len(image):
                part, top = opened.rows(sample, first, last)
                assert top <= first and top + len(part) >= last and len(part) <= last - first + 2 * rows.BLOCK
                np.testing.assert_array_equal(part, image[top : top + len(part)])
                memory = np.empty(image.size, np.uint8)
                part, top = opened.rows(sample, first, last, memory)
                np.testing.assert_array_equal(part, image[top : top + len(part)])
                assert np.shares_memory(part, memory)
    content = bytearray((folder / "train-000000.tar").read_bytes())
    at = bytes(content).index(pairs[0][0][50].tobytes())  # row 50 is in the second block
    content[at] ^= 1
    (folder / "train-000000.tar").write_bytes(bytes(content))
    opened = ShardSet(folder, "train")
    assert opened.rows(0, 0, 32) is not None and opened.rows(0, 64, 100) is not None
    assert opened.rows(0, 31, 33) is None and opened.damaged(0, opened.image(0)) == "image"


def test_the_same_columns_give_the_same_bytes(shards: Path, tmp_path: Path) -> None:
    record = manifest.load_shard(shards, "train-000000")
    part = columns_writer.of_samples(record.samples)
    one = columns_writer.write(tmp_path, "a", [part, part])
    assert (
        one == columns_writer.write(tmp_path, "b", [part, part]) == columns_writer.described(tmp_path / "a.index.npz")
    )
    assert not list(tmp_path.glob("*.partial"))
    read = columns.IndexReader(tmp_path / "a.index.npz", one).columns
    joined = columns_writer.joined([part, part])
    assert all(np.array_equal(getattr(read, name), getattr(joined, name)) for name in columns.NAMES)


def test_a_large_index_is_mapped_and_reads_the_same(shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = ShardSet(shards, "train")
    monkeypatch.setattr(columns, "_READ", 0)
    mapped = ShardSet(shards, "train")
    np.testing.assert_array_equal(mapped.class_pixels_per_sample(), small.class_pixels_per_sample())
    assert mapped.keys == small.keys and mapped.keys[-1] == small.keys[9] and mapped.keys[2:4] == list(small.keys)[2:4]
    assert mapped.image(3).tobytes() == small.image(3).tobytes()
