"""Every kind of byte of a shard folder, damaged in every way: found, or training delivers sound pixels."""

from __future__ import annotations

import itertools
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ingest.errors import UserError
from ingest.shards import manifest
from ingest.verify import verify
from tests.faults.ledger import Tally
from tests.ingest.shards.test_damage import make
from tests.pipeline.test_damage import batches
from tests.shard_folder import smooth_scene, write_shards

PLACES = ("header", "padding", "image", "label", "index", "record", "dataset.json", "columns")
WAYS = ("flip", "zero", "truncate", "delete", "swap", "duplicate")
REMEDIES = ("again", "restore", "verify", "reindex", "make shards")


def spot(folder: Path, place: str, chance: random.Random) -> tuple[Path, int, int]:
    """A file, and the range of its bytes that are of this kind."""
    shard = chance.choice(sorted(path.stem for path in folder.glob("train-*.tar")))
    if place in ("index", "record"):
        path = folder / f"{shard}.{'idx' if place == 'index' else 'json'}"
        return path, 0, path.stat().st_size
    if place in ("dataset.json", "columns"):
        path = folder / ("dataset.json" if place == "dataset.json" else "train.index.npz")
        return path, 0, path.stat().st_size
    sample = chance.choice(manifest.load_shard(folder, shard).samples)
    at, size = (sample.label_at, sample.label_bytes) if place == "label" else (sample.image_at, sample.image_bytes)
    path = folder / f"{shard}.tar"
    if place == "header":
        return path, at - 512, 512
    if place == "padding":
        end = at + size
        left = -end % 512
        return (path, end, left) if left else (path, path.stat().st_size - 1024, 1024)  # else the tar's end
    return path, at, size


def damage(path: Path, at: int, size: int, way: str, chance: random.Random) -> None:
    """Changes the file; where the way leaves it as it was, a byte is flipped."""
    whole = path.read_bytes()
    where = at + chance.randrange(size)
    length = min(chance.randrange(1, 600), at + size - where)
    changed = {
        "flip": whole,
        "zero": whole[:where] + bytes(length) + whole[where + length :],
        "truncate": whole[:where],
        "swap": whole[:at] + whole[where : at + size] + whole[at:where] + whole[at + size :],
        "duplicate": whole[: where + length] + whole[where : where + length] + whole[where + length :],
        "delete": b"",
    }[way]
    if way == "delete" and chance.random() < 0.5:
        path.unlink()
        return
    if changed == whole:
        changed = whole[:where] + bytes([whole[where] ^ chance.randrange(1, 256)]) + whole[where + 1 :]
    path.write_bytes(changed)


def same(made: list, sound: list) -> bool:
    return len(made) == len(sound) and all(
        a.keys == b.keys
        and np.array_equal(a.images.numpy(), b.images.numpy())
        and np.array_equal(a.labels.numpy(), b.labels.numpy())
        for a, b in zip(made, sound, strict=True)
    )


@pytest.mark.parametrize("form", ["keep", "png", "raw"])
def test_damage_is_found(
    raw: Path, tmp_path: Path, form: str, tally: Callable[[str, str], Tally], many: Callable[[int, int], int]
) -> None:
    found = tally("Damage", f"shards of `--image-format {form}`: `verify --deep` finds it")
    trained = tally(
        "Damage", f"shards of `--image-format {form}`: training delivers the ingested pixels, or names file and remedy"
    )
    folder = make(raw, tmp_path / "s", form)
    sound, kept, chance = batches(folder), tmp_path / "kept", random.Random(17)
    shutil.copytree(folder, kept)
    kinds = list(itertools.product(PLACES, WAYS))
    rounds = many(1, 5)
    for trial, (place, way) in enumerate(kinds * rounds):
        path, at, size = spot(folder, place, chance)
        damage(path, at, size, way, chance)
        what = f"{way} in {place} of {path.name}, trial {trial}"
        try:
            verify(folder, deep=True)
            found.lost.append(what)
        except UserError as error:
            found.refused("\n" not in str(error) and path.name.partition(".")[0] in str(error), f"{what}: {error}")
        try:
            trained.check(same(batches(folder), sound), f"{what}: other pixels")
        except UserError as error:
            told = "\n" not in str(error) and str(folder) in str(error) and any(w in str(error) for w in REMEDIES)
            trained.refused(told, f"{what}: {error}")
        shutil.copy(kept / path.name, path)


def test_files_swapped_whole(tmp_path: Path, tally: Callable[[str, str], Tally]) -> None:
    """Each file in each other's place, as a botched copy leaves them; and a file too many."""
    found = tally("Damage", "files under each other's name, or a tar too many")
    pairs = [smooth_scene(40, 48, seed) for seed in range(4)]
    folder = write_shards(tmp_path / "s", {"train": pairs}, schema=2, per_shard=2)
    sound, files = batches(folder), {path: path.read_bytes() for path in folder.iterdir()}
    for one, two in itertools.permutations(files, 2):
        one.write_bytes(files[two])
        what = f"{two.name} as {one.name}"
        with pytest.raises(UserError):
            verify(folder)
        try:
            found.check(same(batches(folder), sound), what)
        except UserError as error:
            found.refused("\n" not in str(error), what)
        one.write_bytes(files[one])
    (folder / "train-000007.tar").write_bytes(files[folder / "train-000000.tar"])
    with pytest.raises(UserError, match=r"train-000007\.tar is not listed"):
        verify(folder)
    found.found += 1
