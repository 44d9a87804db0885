"""Draws training crops as the net sees them: image | label | both, for each its key and its random numbers."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray

from ingest.shards import pictures
from ingest.shards.manifest import IGNORE, Manifest
from ingest.shards.pictures import Cell, Entry, Panel
from ingest.shards.reader import ShardSet
from pipeline import balance, color, geometry, plan
from pipeline.augment import Augment, blur_radius, blur_sigmas
from pipeline.config import Stream
from pipeline.feeding import Feeding
from pipeline.loader import TrainLoader

Picture = NDArray[np.uint8]

_SIDE = 256  # longest side of a picture, pixels
_STRIPES = ((150, 150, 150), (95, 95, 95))  # of padding


@dataclass(frozen=True)
class Crop:
    """One sample of the stream."""

    key: str
    image: Picture  # uint8 [h, w, C]
    label: Picture  # uint8 [h, w]
    outside: NDArray[np.bool_]  # [h, w]: padding
    caption: str


def crops(shards: ShardSet, stream: Stream, count: int, epoch: int, device: str) -> list[Crop]:
    """The first `count` crops of an epoch's stream. UserError when the split has no labels."""
    # Batches of one: the stream itself, whatever the batch size.
    loader = TrainLoader(shards, replace(stream, batch_size=1), Feeding(device=torch.device(device)))
    loader.load_state_dict({"epoch": epoch, "position": 0, "fingerprint": loader.fingerprint()})
    found = []
    order = loader.order(epoch)
    with contextlib.closing(iter(loader)) as batches:
        for position, batch in enumerate(islice(batches, min(count, loader.epoch_samples))):
            sample = order.samples[[position]]
            draws = balance.draws_of(shards, stream, order, np.array([position]))
            matrix = geometry.matrices(draws, shards.sizes_hw[sample], stream.augment)[0]
            assert batch.labels is not None  # the loader refuses splits without
            found.append(
                Crop(
                    batch.keys[0],
                    batch.images[0].permute(1, 2, 0).cpu().numpy(),
                    batch.labels[0].cpu().numpy(),
                    outside(matrix, shards.sizes_hw[sample[0]], stream.augment.crop),
                    _caption(draws, matrix, stream.augment) + _aimed(shards, order, position),
                )
            )
    return found


def _aimed(shards: ShardSet, order: balance.Epoch, position: int) -> str:
    """Which class the crop was to show, when it was."""
    if order.aims is None or order.aims[position] < 0:
        return ""
    return f", aimed at {shards.manifest.classes[order.aims[position]]}"


def outside(matrix: NDArray[np.float64], size_hw: NDArray[np.int64], crop: tuple[int, int]) -> NDArray[np.bool_]:
    """Where a crop has no image, bool [h, w]: its places, taken to the source by `matrix` [2, 3], lie beyond."""
    y, x = np.mgrid[: crop[0], : crop[1]]
    source_x, source_y = np.einsum("ij,jhw->ihw", matrix, np.stack([x, y, np.ones_like(x)]))
    return (source_x < -0.5) | (source_y < -0.5) | (source_x > size_hw[1] - 0.5) | (source_y > size_hw[0] - 0.5)


def sheet(found: list[Crop], facts: Manifest) -> Picture:
    """The crops in rows, a legend of the classes that they show below; padding is striped. uint8 [H, W, 3]."""
    counts = sum(np.bincount(crop.label.ravel(), minlength=256) for crop in found)
    assert isinstance(counts, np.ndarray)
    entries = pictures.class_entries(facts.classes, facts.palette, counts[: facts.num_classes].tolist())
    entries += [pictures.ignored_entry(), Entry("padding (ignored)", *_STRIPES)]
    titles = ["image", "label", "label over image"]
    return pictures.contact_sheet([_cell(crop, facts.palette) for crop in found], titles, entries, _SIDE)


def _caption(draws: plan.Draws, matrix: NDArray[np.float64], augment: Augment) -> str:
    # The matrix goes from the crop to the source: its inverse's size is the magnification.
    words = [
        f"scale {1 / np.sqrt(abs(np.linalg.det(matrix[:, :2]))):.2f}",
        f"turned {(2 * draws.angle[0] - 1) * augment.rotate:+.1f}°",
    ]
    if turns := int(geometry.quarter_turns(draws, augment)[0]):
        words.insert(1, f"quarter turns: {turns}")
    if draws.flip[0] < augment.flip:
        words.append("flipped")
    if draws.vertical_flip[0] < augment.vertical_flip:
        words.append("upside down")
    sigma = blur_sigmas(draws, augment)[0]
    if blur_radius(sigma):
        words.append(f"blur {sigma:.2f} px")
    words += _color_words(draws, augment)
    erased = color.rectangles(draws, augment)
    if erased is not None and erased[0, 2]:
        words.append(f"erased {erased[0, 3]}x{erased[0, 2]}")
    return ", ".join(words)


def _color_words(draws: plan.Draws, augment: Augment) -> list[str]:
    """What happened to the colors."""
    found = color.colors(draws, augment, [0, 0, 0])
    if found is None:
        return []
    words = []
    if found.shift[0]:
        words.append(f"brightness {found.shift[0]:+.0f}")
    if found.gain[0] != 1:
        words.append(f"contrast x{found.gain[0]:.2f}")
    if found.saturation[0] == 0:
        return [*words, "gray"]
    if found.saturation[0] != 1:
        words.append(f"saturation x{found.saturation[0]:.2f}")
    if found.hue[0]:
        words.append(f"hue {found.hue[0]:+.0f}°")
    return words


def _cell(crop: Crop, palette: list[list[int]]) -> Cell:
    """Image | label | label over image, and two lines of text."""
    image = np.ascontiguousarray(pictures.rgb(crop.image))
    colors = pictures.colorize(crop.label, palette)
    y, x = np.mgrid[: image.shape[0], : image.shape[1]]
    stripes = np.array(_STRIPES, np.uint8)[(x + y) // 4 % 2]
    colors[crop.outside] = stripes[crop.outside]
    # What is ignored stays itself: only classes are tinted, and padding.
    blend = pictures.overlay(image, colors, 0.5, (crop.label != IGNORE) | crop.outside)
    return Cell([Panel(image), Panel(colors, flat=True), Panel(blend)], [crop.key, crop.caption])
