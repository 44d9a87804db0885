"""The scratch folder of prepared scenes: which samples are cut from which, and preparing them in parallel."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

from tqdm import tqdm

from ingest.errors import UserError
from ingest.pixels import rasters
from ingest.pixels.labels import DrawnLabel, LabelMap
from ingest.pixels.rasters import Tile
from ingest.pixels.raw import facts
from ingest.pixels.recipe import PixelRecipe
from ingest.pixels.tiff import Facts
from ingest.processes import watch_parent
from ingest.sources.archives import Source
from ingest.sources.raw import Pair, RawDataset

FOLDER = "scenes"


@dataclass(frozen=True)
class _Job:
    source: Source | DrawnLabel
    path: Path
    scene: Source  # the same as `source`, or what it is the label of
    pixels: PixelRecipe
    labels: LabelMap
    classes: tuple[str, ...]


def tiled(raw: RawDataset, tile: Tile) -> RawDataset:
    """The dataset with a sample per tile; only the files' heads are read."""
    splits = {split: [one for pair in pairs for one in _tiles(pair, tile)] for split, pairs in raw.splits.items()}
    return dataclasses.replace(raw, splits=splits, expected={})  # official counts are of whole images


def _tiles(pair: Pair, tile: Tile) -> Iterator[Pair]:
    found = facts(pair.image)
    for window in rasters.windows(found.height, found.width, tile):
        place = found.place and found.place.shifted(window[0], window[1])
        yield dataclasses.replace(pair, window=window, place=place)


def place(folder: Path, source: Source | DrawnLabel) -> Path:
    """Where a source's prepared array lies."""
    return folder / FOLDER / (hashlib.sha256(source.name.encode("utf-8", "surrogateescape")).hexdigest()[:24] + ".npy")


def prepare(pairs: Iterable[Pair], folder: Path, raw: RawDataset, workers: int) -> None:
    """Decodes every scene and label that the pairs are cut from, once each. Checks that their sizes agree."""
    (folder / FOLDER).mkdir(exist_ok=True)
    unique = {pair.image.name: pair for pair in pairs}
    jobs = []
    for pair in unique.values():
        for source in (pair.image, pair.label):
            if source is not None and not place(folder, source).exists():
                path = place(folder, source)
                jobs.append(_Job(source, path, pair.image, raw.pixels, raw.labels, tuple(raw.classes)))
    _run(jobs, workers, raw.name)
    for pair in unique.values():
        if isinstance(pair.label, Source):
            _same_grid(pair, facts(pair.image), facts(pair.label))


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


def _run(jobs: Sequence[_Job], workers: int, name: str) -> None:
    with tqdm(total=len(jobs), desc=f"{name}: scenes", unit="file", disable=None) as progress:
        if workers == 1 or len(jobs) < 2:
            for job in jobs:
                _prepare(job)
                progress.update()
            return
        with ProcessPoolExecutor(workers, get_context("forkserver"), watch_parent) as pool:
            for _ in pool.map(_prepare, jobs):
                progress.update()


def _prepare(job: _Job) -> None:
    if job.source is job.scene or job.source == job.scene:  # a pickled job holds two copies
        rasters.prepare_scene(job.scene, job.pixels, job.path)
    else:
        rasters.prepare_label(job.source, job.labels, job.classes, job.scene, job.path)


def remove(folder: Path) -> None:
    """Deletes the scratch folder's arrays."""
    if (folder / FOLDER).is_dir():
        for name in os.listdir(folder / FOLDER):
            (folder / FOLDER / name).unlink()
        (folder / FOLDER).rmdir()
