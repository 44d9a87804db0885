"""Which samples an epoch visits, and where their crops lie, when that depends on the classes that their labels show.

`data.balance` keeps a share of an epoch's places for crops that show a class. `augment.cat_max_ratio` draws the place
of a crop again in which one class takes more than that share. Both go by what ingest recorded of each label: its
classes, and an 8 x 8 grid of where they are (`ShardSet.areas`). No label is decoded, and the stream stays a pure
function of (dataset, seed, epoch, position).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

from ingest.errors import UserError, nearest
from ingest.shards.areas import GRID, Areas, edges
from ingest.shards.manifest import IGNORE
from ingest.shards.reader import ShardSet
from pipeline import geometry, plan
from pipeline.augment import Augment
from pipeline.config import Stream
from pipeline.plan import Draws

TRIES = 10  # further places for a crop that one class fills, as many as mmsegmentation's
_LATTICE = 16  # points along either axis at which a crop looks into its image's grid


@dataclass(frozen=True)
class Epoch:
    """The samples of an epoch in their order."""

    number: int
    samples: NDArray[np.int64]
    """[N]."""
    aims: NDArray[np.int64] | None = None
    """[N]: the class that each crop is to show, -1 for any; None: any for all."""
    owners: NDArray[np.int64] | None = None
    """[N]: whose random numbers each crop takes, a number of its own where a sample comes again; None: the sample's."""


@dataclass(frozen=True)
class Target:
    """A class of `data.balance`."""

    class_id: int
    share: float
    """Of the epoch's crops."""
    candidates: NDArray[np.int64]
    """Samples that show it, ascending."""


def targets(shards: ShardSet, balance: Mapping[str, float]) -> list[Target]:
    """UserError for a class that the dataset does not have or that no sample of the split shows."""
    found = []
    for name, share in balance.items():
        target = _target(shards, name, share)
        if not len(target.candidates):
            raise UserError(
                f"data.balance asks for {name!r}, which no sample of split {shards.split!r} shows: leave it out"
            )
        found.append(target)
    return found


def unseen(shards: ShardSet, balance: Mapping[str, float]) -> list[str]:
    """The classes of a balance that no sample shows. UserError for one that the dataset does not have."""
    return [name for name, share in balance.items() if not len(_target(shards, name, share).candidates)]


def _target(shards: ShardSet, name: str, share: float) -> Target:
    classes = shards.manifest.classes
    if name not in classes:
        raise UserError(f"data.balance names {name!r}{nearest(name, classes)}")
    return Target(classes.index(name), share, shards.samples_with(classes.index(name)))


def epoch_of(shards: ShardSet, stream: Stream, number: int, chosen: list[Target]) -> Epoch:
    """The order of epoch `number`. chosen: `targets` of the stream's balance."""
    if any(part.weight != 1 for part in shards.parts):
        return _weighted_epoch(shards, stream, number, chosen)
    if not chosen:
        return Epoch(number, plan.windowed_order(stream.seed, number, shards.counts, stream.shuffle_window))
    pools = [(int(target.share * len(shards)), target.candidates) for target in chosen]
    samples, pool = plan.balanced_order(stream.seed, number, len(shards), pools)
    classes = np.array([*(target.class_id for target in chosen), -1])
    return Epoch(number, samples, classes[pool])


def _weighted_epoch(shards: ShardSet, stream: Stream, number: int, chosen: list[Target]) -> Epoch:
    """The same where folders have weights: the visits of the epoch stand in the order in place of the samples."""
    visits = plan.visits(stream.seed, number, [(part.samples, part.visits) for part in shards.parts])
    again = np.arange(len(visits)) - np.searchsorted(visits, visits)  # visits to its sample before this one
    owners = visits + again * len(shards)
    if not chosen:
        shard = np.searchsorted(np.cumsum(shards.counts), visits, side="right")
        counts = np.bincount(shard, minlength=len(shards.counts)).tolist()
        order = plan.windowed_order(stream.seed, number, counts, stream.shuffle_window)
        return Epoch(number, visits[order], owners=owners[order])
    pools = [(int(target.share * len(visits)), target.candidates) for target in chosen]
    order, pool = plan.balanced_order(stream.seed, number, len(visits), pools)
    classes = np.array([*(target.class_id for target in chosen), -1])
    free, place = pool < 0, np.minimum(order, len(visits) - 1)
    samples = np.where(free, visits[place], order)
    return Epoch(number, samples, classes[pool], np.where(free, owners[place], samples))


def draws_of(shards: ShardSet, stream: Stream, epoch: Epoch, positions: NDArray[np.int64]) -> Draws:
    """The random numbers of the crops at these positions (int64 [B]) of the epoch, their places settled."""
    samples, augment = epoch.samples[positions], stream.augment
    owners = samples if epoch.owners is None else epoch.owners[positions]
    draws = plan.draw(stream.seed, epoch.number, owners)
    if augment.cat_max_ratio < 1:
        draws = _without_monotony(shards, stream, epoch.number, owners, draws)
    if epoch.aims is None:
        return draws
    aims = epoch.aims[positions]
    aimed = np.flatnonzero(aims >= 0)
    numbers = np.stack([getattr(draws, field.name) for field in fields(Draws)], axis=1)
    own, points = plan.draw_aimed(stream.seed, epoch.number, positions[aimed])
    numbers[aimed] = np.stack([getattr(own, field.name) for field in fields(Draws)], axis=1)
    draws = Draws.of(numbers)
    top, left = draws.top.copy(), draws.left.copy()
    for i, point in zip(aimed, points, strict=True):
        sample = int(samples[i])
        source = _point(shards.areas(sample), int(aims[i]), shards.sizes_hw[sample], point)
        top[i], left[i] = _around(source, shards.sizes_hw[sample], augment, Draws.of(numbers[[i]]))
    return replace(draws, top=top, left=left)


def _without_monotony(shards: ShardSet, stream: Stream, epoch: int, owners: NDArray[np.int64], draws: Draws) -> Draws:
    """Of each crop's place and `TRIES` others the first in which no class takes too much; else the last.

    owners: int64 [B], as in `Epoch`; modulo the number of samples they are the samples.
    """
    samples = owners % len(shards)
    numbers = np.stack([getattr(draws, field.name) for field in fields(Draws)], axis=1)
    top, left = draws.top.copy(), draws.left.copy()
    for i, sample in enumerate(samples):
        areas, size = shards.areas(int(sample)), shards.sizes_hw[sample]
        if _largest_share(areas, Draws.of(numbers[[i]]), size, stream.augment)[0] < stream.augment.cat_max_ratio:
            continue  # most are: the others cost more
        tried = Draws.of(np.tile(numbers[i], (TRIES, 1)))
        places = plan.draw_places(stream.seed, epoch, owners[[i]], TRIES)[0]
        tried = replace(tried, top=places[:, 0], left=places[:, 1])
        good = np.flatnonzero(_largest_share(areas, tried, size, stream.augment) < stream.augment.cat_max_ratio)
        top[i], left[i] = places[good[0] if len(good) else TRIES - 1]
    return replace(draws, top=top, left=left)


def _largest_share(areas: Areas, draws: Draws, size_hw: NDArray[np.int64], augment: Augment) -> NDArray[np.float64]:
    """Of the labeled pixels of B crops of one image, the share of the class that has most, float64 [B], by the grid; 1
    if there is but one class, or none."""
    matrices = geometry.matrices(draws, np.tile(size_hw, (len(draws.top), 1)), augment)
    crop_height, crop_width = augment.crop
    y, x = (((np.arange(_LATTICE) + 0.5) / _LATTICE * side - 0.5) for side in (crop_height, crop_width))
    points = np.stack([*np.meshgrid(x, y), np.ones((_LATTICE, _LATTICE))]).reshape(3, -1)
    places = matrices @ points + 0.5  # [B, 2, points]: x and y from the image's corner
    height, width = size_hw
    inside = (places >= 0).all(axis=1) & (places[:, 0] < width) & (places[:, 1] < height)
    cells = np.clip((places * (GRID / np.array([width, height]))[:, None]).astype(np.int64), 0, GRID - 1)
    grids = areas.grids[areas.ids != IGNORE].astype(np.float64)  # [n, GRID, GRID]
    per_class = (grids[:, cells[:, 1], cells[:, 0]] * inside).sum(axis=2)  # [n, B]
    total = per_class.sum(axis=0)
    several = (per_class > 0).sum(axis=0) > 1
    return np.where(several, per_class.max(axis=0, initial=0) / np.maximum(total, 1), 1.0)


def _point(areas: Areas, class_id: int, size_hw: NDArray[np.int64], point: NDArray[np.float64]) -> NDArray[np.float64]:
    """A point of the image, (x, y, 1) in pixels, in a cell where the grid has the class; [3] uniform numbers say which.

    A cell comes as often as it has pixels of the class; inside it the point lies anywhere.
    """
    rows, columns = edges(int(size_hw[0])), edges(int(size_hw[1]))
    grid = areas.grids[areas.ids == class_id][0].astype(np.float64)
    weights = np.cumsum((grid * np.outer(np.diff(rows), np.diff(columns))).ravel())
    cell = int(np.searchsorted(weights, point[0] * weights[-1], side="right"))
    row, column = divmod(cell, GRID)
    y = rows[row] + point[1] * (rows[row + 1] - rows[row]) - 0.5
    x = columns[column] + point[2] * (columns[column + 1] - columns[column]) - 0.5
    return np.array([x, y, 1.0])


def _around(
    source: NDArray[np.float64], size_hw: NDArray[np.int64], augment: Augment, draws: Draws
) -> tuple[float, float]:
    """`top` and `left` for a crop (draws [1]) that holds the source's point and lies anywhere around it.

    Along an axis where the scaled image is no larger than the crop they stay: it is in the crop wherever that lies.
    """
    sizes = size_hw[None]
    # Where the point lies in the scaled and turned image: in a crop at its corner that is not mirrored.
    corner, upright = replace(draws, top=np.zeros(1), left=np.zeros(1)), replace(augment, flip=0.0, vertical_flip=0.0)
    scaled = geometry.scaled_sizes(draws, sizes, augment)[0]
    to_source = geometry.matrices(corner, sizes, upright)[0]
    x, y = np.linalg.solve(to_source[:, :2], source[:2] - to_source[:, 2])
    found = []
    for number, place, side, crop in zip((draws.top[0], draws.left[0]), (y, x), scaled, augment.crop, strict=True):
        room = int(side) - crop
        low, high = max(0, math.ceil(place - crop + 1)), min(room, math.floor(place))
        if room <= 0:
            found.append(float(number))
        elif low > high:  # the rotation has turned the point out of the image
            found.append((min(max(round(place - crop / 2), 0), room) + 0.5) / (room + 1))
        else:
            found.append((low + math.floor(number * (high - low + 1)) + 0.5) / (room + 1))
    return found[0], found[1]
