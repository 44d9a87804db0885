"""The scratch folder of prepared scenes: which samples are cut from which, and preparing them in parallel."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import click
from tqdm import tqdm

from ingest.errors import UserError
from ingest.pixels import rasters
from ingest.pixels.labels import DrawnLabel, LabelMap
from ingest.pixels.rasters import Tile
from ingest.pixels.raw import facts
from ingest.pixels.recipe import PixelRecipe
from ingest.pixels.tiff import Facts
from ingest.processes import Work, in_order
from ingest.resume import STAMP, stamp
from ingest.shards.manifest import Skipped
from ingest.shards.wording import count
from ingest.sources.archives import Source
from ingest.sources.raw import Pair, RawDataset

FOLDER = "scenes"
_BROKEN = ".broken"  # beside where the array would be: why there is none


@dataclass(frozen=True)
class _Job:
    source: Source | DrawnLabel
    path: Path
    scene: Source  # the same as `source`, or what it is the label of
    pixels: PixelRecipe
    labels: LabelMap
    classes: tuple[str, ...]
    skip_bad: bool


def tiled(raw: RawDataset, tile: Tile, skip_bad: bool = False) -> RawDataset:
    """The dataset with a sample per tile; only the files' heads are read. `skip_bad` lists what cannot be read."""
    splits: dict[str, list[Pair]] = {split: [] for split in raw.splits}
    skipped = {split: list(raw.skipped.get(split, [])) for split in raw.splits}
    for split, pairs in raw.splits.items():
        for pair in pairs:
            try:
                splits[split] += _tiles(pair, tile)
            except UserError as error:
                if not skip_bad:
                    raise
                skipped[split].append(Skipped(pair.image.name, str(error)))
    # official counts are of whole images
    return dataclasses.replace(raw, splits=splits, skipped=skipped, expected={})


def _tiles(pair: Pair, tile: Tile) -> list[Pair]:
    """A scene's tiles. UserError where it and its label do not lie on one grid."""
    found = facts(pair.image)
    if isinstance(pair.label, Source):
        _same_grid(pair, found, facts(pair.label))
    return [
        dataclasses.replace(pair, window=window, place=found.place and found.place.shifted(window[0], window[1]))
        for window in rasters.windows(found.height, found.width, tile)
    ]


def place(folder: Path, source: Source | DrawnLabel) -> Path:
    """Where a source's prepared array lies."""
    return folder / FOLDER / (hashlib.sha256(source.name.encode("utf-8", "surrogateescape")).hexdigest()[:24] + ".npy")


def prepared(folder: Path, source: Source | DrawnLabel) -> Path:
    """The same; UserError where the source could not be prepared."""
    path = place(folder, source)
    if (broken := path.with_suffix(_BROKEN)).exists():
        raise UserError(broken.read_text())
    return path


def prepare(pairs: Iterable[Pair], folder: Path, raw: RawDataset, workers: int, skip_bad: bool = False) -> None:
    """Decodes every scene and label that the pairs are cut from, once each.

    Under `skip_bad` a broken one is noted, for its tiles to be left out.
    """
    (folder / FOLDER).mkdir(exist_ok=True)
    unique = {pair.image.name: pair for pair in pairs}
    jobs = []
    for pair in unique.values():
        for source in (pair.image, pair.label):
            if source is None:
                continue
            path, mark = place(folder, source), stamp([source, pair.image])
            if not _is_fresh(path, mark):
                path.unlink(missing_ok=True)
                path.with_suffix(STAMP).write_text(mark)
                jobs.append(_Job(source, path, pair.image, raw.pixels, raw.labels, tuple(raw.classes), skip_bad))
    unmatched = _run(jobs, workers, raw.name)
    if unmatched:
        click.echo(
            f"note: {count(unmatched, 'pixel')} had a color too far from every class's, and are ignored", err=True
        )


def _is_fresh(path: Path, mark: str) -> bool:
    """Whether a killed run prepared this array from the same source files."""
    noted = path.with_suffix(STAMP)
    return path.exists() and noted.exists() and noted.read_text() == mark


def _same_grid(pair: Pair, image: Facts, label: Facts) -> None:
    """UserError where a scene and its label differ in size, or lie elsewhere on the map."""
    assert pair.label is not None
    if (image.height, image.width) != (label.height, label.width):
        raise UserError(
            f"{pair.image.name} is {image.width}x{image.height}, its label {pair.label.name} "
            f"{label.width}x{label.height} (width x height): pair the image with its own label, or resize one of them"
        )
    if image.place and label.place and not image.place.same_as(label.place):
        raise UserError(
            f"{pair.image.name} and its label {pair.label.name} lie on different grids ({image.place.brief} and "
            f"{label.place.brief}): bring the label to the image's grid, as `gdalwarp` does"
        )


def _run(jobs: Sequence[_Job], workers: int, name: str) -> int:
    """Prepares in parallel. Returns how many label pixels no color matched."""
    unmatched = 0
    with tqdm(total=len(jobs), desc=f"{name}: scenes", unit="file", disable=None) as progress:
        if workers == 1 or len(jobs) < 2:
            for job in jobs:
                unmatched += _prepare(job)
                progress.update()
            return unmatched
        work = Work(_prepare, lambda job: job.source.name)
        with contextlib.closing(in_order(jobs, work, min(workers, len(jobs)))) as done:
            for strays in done:
                unmatched += strays
                progress.update()
    return unmatched


def _prepare(job: _Job) -> int:
    try:
        return _prepare_sound(job)
    except UserError as error:
        if not job.skip_bad:
            raise
        job.path.with_suffix(_BROKEN).write_text(str(error))
        return 0


def _prepare_sound(job: _Job) -> int:
    if job.source is job.scene or job.source == job.scene:  # a pickled job holds two copies
        rasters.prepare_scene(job.scene, job.pixels, job.path)
        return 0
    return rasters.prepare_label(job.source, job.labels, job.classes, job.scene, job.path)


def remove(folder: Path) -> None:
    """Deletes the scratch folder's arrays."""
    if (folder / FOLDER).is_dir():
        for name in os.listdir(folder / FOLDER):
            (folder / FOLDER / name).unlink()
        (folder / FOLDER).rmdir()
