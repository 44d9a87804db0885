"""Which classes a label shows, how many pixels of each, and roughly where: known without decoding the label again.

Where: a grid of 8 x 8 cells over the image, whatever its size. For each class that occurs, each cell holds the share of
the cell's pixels that are of that class, in 255ths, rounded up: 0 means that the class is not there at all.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

GRID = 8  # cells along either axis


@dataclass(frozen=True)
class Areas:
    """The classes of one label, ascending; 255 (ignored) is counted as if it were a class."""

    ids: NDArray[np.uint8]
    """[n]: label values that occur."""
    pixels: NDArray[np.uint32]
    """[n]: pixels of each."""
    grids: NDArray[np.uint8]
    """[n, 8, 8]: share of each cell's pixels, 255ths, rounded up."""


def edges(length: int) -> list[int]:
    """Where the 8 cells along an axis of `length` pixels begin, and where the last ends: 9 numbers.

    Axes of fewer than 8 pixels have empty cells, whose share is 0.
    """
    return [i * length // GRID for i in range(GRID + 1)]


def measure(label: NDArray[np.uint8]) -> Areas:
    """Of a label uint8 [H, W]."""
    rows, columns = edges(label.shape[0]), edges(label.shape[1])
    column_of = np.repeat(np.arange(GRID) * 256, np.diff(columns))
    counts = np.stack(
        [
            np.bincount((label[rows[i] : rows[i + 1]] + column_of).ravel(), minlength=GRID * 256).reshape(GRID, 256)
            for i in range(GRID)  # a band of cells at a time: its widened copy stays in the cache
        ]
    )
    total = counts.sum(axis=(0, 1))
    ids = np.flatnonzero(total)
    size = np.maximum(np.outer(np.diff(rows), np.diff(columns)), 1)
    shares = -(-255 * counts[..., ids] // size[..., None])
    return Areas(ids.astype(np.uint8), total[ids].astype(np.uint32), np.moveaxis(shares, 2, 0).astype(np.uint8))


def to_text(areas: Areas) -> list[tuple[int, int, str]]:
    """As a shard's record holds them: (label value, pixels, the grid's 64 bytes in base64), a class each."""
    return [
        (int(value), int(pixels), base64.b64encode(grid.tobytes()).decode())
        for value, pixels, grid in zip(areas.ids, areas.pixels, areas.grids, strict=True)
    ]


def from_text(entries: list[tuple[int, int, str]]) -> Areas:
    """The reverse. ValueError where a value, a count or a grid cannot be."""
    grids = [base64.b64decode(grid, validate=True) for _, _, grid in entries]
    if any(len(grid) != GRID * GRID for grid in grids):
        raise ValueError(f"a grid has not {GRID} x {GRID} cells")
    ids, pixels = [entry[0] for entry in entries], [entry[1] for entry in entries]
    if any(not 0 <= value <= 255 for value in ids) or ids != sorted(set(ids)) or any(count < 1 for count in pixels):
        raise ValueError("classes are not ascending values of 0..255 with at least a pixel each")
    return Areas(
        np.array(ids, np.uint8),
        np.array(pixels, np.uint32),
        np.frombuffer(b"".join(grids), np.uint8).reshape(-1, GRID, GRID),
    )
