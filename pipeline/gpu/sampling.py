"""Crops out of decoded images that lie behind each other in one block of memory, with torch, on any device.

The arithmetic is the CPU device's (`pipeline.cpu`): bilinear with a constant border, nearest for labels, colors as one
affine map, a Gaussian of the same width. OpenCV samples at 1/32 of a pixel, this exactly: they differ by a few levels.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from pipeline.augment import blur_radius


def bilinear(pixels: Tensor, at: Tensor, hw: Tensor, points: Tensor, border: Tensor) -> Tensor:
    """Images sampled at points: uint8 [B, h, w, C].

    Args:
        pixels: uint8 [P, C], all images, row after row.
        at: int64 [B], where each begins in them.
        hw: int64 [B, 2], their sizes; (0, 0): there is none, all of it is border.
        points: float32 [B, 2, h, w], x and y in pixels of the image, centers at whole numbers.
        border: float32 [B, C], the color outside.
    """
    low = points.floor()
    part = points - low
    column, row = low[:, 0].long(), low[:, 1].long()
    total = torch.zeros((*column.shape, pixels.shape[1]), device=pixels.device)
    for down in (0, 1):
        for right in (0, 1):
            weight = (part[:, 0] if right else 1 - part[:, 0]) * (part[:, 1] if down else 1 - part[:, 1])
            index, inside = _places(column + right, row + down, at, hw)
            color = torch.where(inside[..., None], pixels[index].float(), border[:, None, None])
            total += weight[..., None] * color
    return _levels(total)


def nearest(values: Tensor, at: Tensor, hw: Tensor, points: Tensor) -> Tensor:
    """Labels at points, uint8 [B, h, w]; 255 outside. values: uint8 [P]; the others as for `bilinear`."""
    rounded = (points + 0.5).floor().long()
    index, inside = _places(rounded[:, 0], rounded[:, 1], at, hw)
    return torch.where(inside, values[index], 255)


def points(matrices: Tensor, size: tuple[int, int]) -> Tensor:
    """Where the pixels of a crop of that height and width lie in their sources, float32 [B, 2, h, w].

    matrices: float32 [B, 2, 3], crop-to-source.
    """
    y, x = (torch.arange(side, dtype=torch.float32, device=matrices.device) for side in size)
    rows = matrices[:, :, 1, None, None] * y[:, None] + matrices[:, :, 2, None, None]
    return matrices[:, :, 0, None, None] * x + rows


def recolored(images: Tensor, maps: Tensor) -> Tensor:
    """uint8 [B, h, w, 3] under affine maps, float32 [B, 3, 4] (`pipeline.color`), rounded and clipped once."""
    turned = torch.einsum("bij,bhwj->bhwi", maps[:, :, :3], images.float())
    return _levels(turned + maps[:, None, None, :, 3])


def blurred(images: Tensor, sigmas: NDArray[np.float64]) -> Tensor:
    """uint8 [B, h, w, C], each with its own sigma (pixels; 0: as it is), mirrored at the edges without the edge."""
    radii = [blur_radius(float(sigma)) for sigma in sigmas]
    if not (radius := max(radii)):
        return images
    weights = np.zeros((len(sigmas), 2 * radius + 1), np.float32)
    for row, sigma, own in zip(weights, sigmas, radii, strict=True):
        offsets = np.arange(-own, own + 1)
        kernel = np.exp(-(offsets**2) / (2 * sigma**2)) if own else np.ones(1)
        row[radius - own : radius + own + 1] = kernel / kernel.sum()
    taps = torch.from_numpy(weights).to(images.device, non_blocking=True)
    found = images.permute(0, 3, 1, 2).float()
    height, width = found.shape[2:]
    padded = F.pad(found, (0, 0, radius, radius), mode="reflect")
    rows = [taps[:, i, None, None, None] * padded[:, :, i : i + height] for i in range(2 * radius + 1)]
    found = torch.stack(rows).sum(0)
    padded = F.pad(found, (radius, radius, 0, 0), mode="reflect")
    columns = [taps[:, i, None, None, None] * padded[:, :, :, i : i + width] for i in range(2 * radius + 1)]
    return _levels(torch.stack(columns).sum(0)).permute(0, 2, 3, 1)


def erased(images: Tensor, rectangles: Tensor, fill: Sequence[int]) -> Tensor:
    """uint8 [B, h, w, C] with `fill` in rectangles: int64 [B, 4], top, left, height, width, pixels."""
    y, x = (torch.arange(side, device=images.device) for side in images.shape[1:3])
    top, left, height, width = rectangles.T[:, :, None]
    rows, columns = (y >= top) & (y < top + height), (x >= left) & (x < left + width)
    color = torch.tensor(list(fill), dtype=torch.uint8, device=images.device)
    return torch.where((rows[:, :, None] & columns[:, None])[..., None], color, images)


def _places(column: Tensor, row: Tensor, at: Tensor, hw: Tensor) -> tuple[Tensor, Tensor]:
    """Of pixels by column and row, int64 [B, h, w]: their numbers in the block, and whether they are in the image."""
    height, width = hw[:, 0, None, None], hw[:, 1, None, None]
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    number = at[:, None, None] + row * width + column
    return torch.where(inside, number, 0), inside


def _levels(values: Tensor) -> Tensor:
    """Rounded to 0..255."""
    return (values + 0.5).floor().clamp(0, 255).to(torch.uint8)
