"""Labels many images: read ahead in threads and written behind, so that the net does not wait for files."""

from __future__ import annotations

import contextlib
import shutil
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from ingest.errors import UserError
from ingest.pixels import tiff
from ingest.shards.manifest import IGNORE
from ingest.shards.reader import ShardSet
from pipeline import decode
from train.predict import outputs, scene, video
from train.predict.inputs import Item
from train.predict.outputs import Output, Predicted
from train.predict.raw import InMemory, Reader, by_region, opened
from train.predict.scene import Labeler

_READERS, _WRITERS = 2, 2
_AHEAD = 4  # images read before they are needed, and images not yet written
_MOST_PROBABILITIES = 2 << 30  # bytes of an image's probabilities


@dataclass
class Done:
    """What came of it on one rank."""

    written: int = 0
    failed: list[tuple[str, str]] = field(default_factory=list)
    """(file, reason)."""
    annotations: dict[str, tuple[tuple[int, int], list[dict[str, Any]]]] = field(default_factory=dict)
    """COCO's, by file name."""
    largest: list[int] = field(default_factory=list)
    """Of each file of 16 bits a value that the net was shown as one of 8 (`train.predict.depth`)."""


def run(items: list[Item], labeler: Labeler, reader: Reader, output: Output, auto: bool, quiet: bool) -> Done:
    """Labels the items one after another. One that fails is noted, and the others go on.

    auto: large images are done in windows. quiet: no progress bar. Raises OSError when nothing more can be written.
    """
    done = Done()
    behind: deque[tuple[Item, tuple[int, int], Future[list[dict[str, Any]]]]] = deque()

    def settle(most: int) -> None:
        while len(behind) > most:
            item, size, future = behind.popleft()
            try:
                done.annotations[_file_name(item)] = size, future.result()
                done.written += 1
            except UserError as error:
                done.failed.append((str(item), str(error)))

    with (
        ThreadPoolExecutor(_WRITERS) as writers,
        tqdm(total=len(items), unit="image", disable=True if quiet else None, dynamic_ncols=True) as bar,
    ):
        for item, loaded in _ahead(items, reader):
            try:
                if item.is_video:
                    video.label(item, labeler, reader, output)
                    done.written += 1
                else:
                    image = loaded.result()
                    if isinstance(image, InMemory) and image.largest is not None:
                        done.largest.append(image.largest)
                    found = _labeled(item, image, labeler, reader, output, auto)
                    behind.append((item, found.mask.shape, writers.submit(_written, found, output)))
            except UserError as error:
                done.failed.append((str(item), str(error)))
            settle(_AHEAD)
            bar.update()
        settle(0)
    with contextlib.suppress(OSError):  # it stays where something is left in it, for the next call
        _work(output, Path()).rmdir()
    return done


def _ahead(items: list[Item], reader: Reader) -> Iterator[tuple[Item, Future[InMemory | tiff.Facts]]]:
    """Each item with what is read of it, _AHEAD of the one that is asked for."""
    waiting: deque[tuple[Item, Future[InMemory | tiff.Facts]]] = deque()
    with ThreadPoolExecutor(_READERS) as pool:
        try:
            for item in items:
                waiting.append((item, pool.submit(_load, item, reader)))
                if len(waiting) > _AHEAD:
                    yield waiting.popleft()
            while waiting:
                yield waiting.popleft()
        finally:
            for _, future in waiting:
                future.cancel()


def _load(item: Item, reader: Reader) -> InMemory | tiff.Facts:
    """The image; or the facts of a TIFF that is too large to be read at once."""
    if item.shards is not None:
        return InMemory(_sample(item.shards, item.sample))
    if item.is_video:
        return InMemory(np.zeros((0, 0, 3), np.uint8))
    return by_region(item.path, reader, scene.MOST_WHOLE) or reader.read(item.path)


def _sample(shards: ShardSet, sample: int) -> np.ndarray:
    encoded = shards.image(sample)
    try:
        pixels = np.array(decode.image(encoded))  # a copy: the decoder's memory is used again
    except decode.DecodeError as error:
        raise UserError(f"{shards.keys[sample]} in {shards.shard_of(sample)} is broken ({error})") from error
    if shards.damaged(sample, encoded):
        raise UserError(f"{shards.keys[sample]} in {shards.shard_of(sample)} is broken: its sum differs")
    return pixels


def _labeled(
    item: Item, loaded: InMemory | tiff.Facts, labeler: Labeler, reader: Reader, output: Output, auto: bool
) -> Predicted:
    if isinstance(loaded, InMemory):
        _check(item, loaded.size, loaded.place, output)
        if loaded.size[0] * loaded.size[1] <= scene.MOST_WHOLE:
            how = labeler.method(loaded.size, auto)
            mask, probabilities = scene.whole(labeler, loaded.pixels, how, output.probabilities)
            if loaded.valid is not None:
                mask = np.where(loaded.valid, mask, np.uint8(IGNORE))
            return Predicted(item.name, loaded.pixels, mask, probabilities, loaded.place)
        mask = _in_windows(item, loaded, labeler, output, auto)
        return Predicted(item.name, loaded.pixels, mask, None, loaded.place)
    _check(item, (loaded.height, loaded.width), loaded.place, output)
    with opened(item.path, reader, loaded) as raster:
        mask = _in_windows(item, raster, labeler, output, auto)
        shown = raster.reduced(*outputs.reduced(*raster.size)) if output.overlays else None
    return Predicted(item.name, shown, mask, None, loaded.place)


def _check(item: Item, size: tuple[int, int], place: tiff.Place | None, output: Output) -> None:
    """UserError for what cannot be written of the image, before it is worked on."""
    if output.polygons == "geojson" and place is None:
        raise UserError(
            f"{item} has no CRS, and GeoJSON is in longitude and latitude: use --polygons coco, or georeference it"
        )
    bytes_ = 2 * size[0] * size[1] * len(output.classes)
    if output.probabilities and (bytes_ > _MOST_PROBABILITIES or size[0] * size[1] > scene.MOST_WHOLE):
        raise UserError(
            f"--probabilities of {item}, {size[1]}x{size[0]} pixels and {len(output.classes)} classes, would be "
            f"{bytes_ / 1e9:.1f} GB: cut it into pieces of at most {scene.MOST_WHOLE / 1e6:g} million pixels"
        )


def _in_windows(item: Item, picture: scene.Scene, labeler: Labeler, output: Output, auto: bool) -> np.ndarray:
    height, width = picture.size
    how = labeler.method(picture.size, auto)
    with tqdm(total=height * width, unit="px", unit_scale=True, desc=str(item.name), leave=False, disable=None) as bar:

        def tell(pixels: int) -> None:
            bar.update(pixels)

        return scene.in_windows(labeler, picture, how, _work(output, item.name), tell)


def _work(output: Output, name: Path) -> Path:
    """Where a large image's mask lies until it is finished."""
    return output.folder / "unfinished" / name


def _written(found: Predicted, output: Output) -> list[dict[str, Any]]:
    annotations = outputs.write(found, output)
    shutil.rmtree(_work(output, found.name), ignore_errors=True)
    return annotations


def _file_name(item: Item) -> str:
    return str(item.name) + (item.path.suffix if item.shards is None else "")
