"""Scores of images of any size from the top down, also where several sizes of the image are averaged.

What is held are some rows: of the windows of each size, and of the scores at the image's own size that they are
resampled to. The numbers are those of `windows.segment`, up to float32's rounding.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from train.predict.resample import averaging, bilinear, resample
from train.predict.windows import ROW_BYTES, Inference, Read, lanes, run, starts, stitched

Size = tuple[int, int]
_MOST_ROWS = 256  # of scores that are handed on at once
_BAND = 16_000_000  # source pixels that are resampled at once


def streamed(
    read: Read, size: Size, net: nn.Module, how: Inference, lane: tuple[int, int], first: int = 0
) -> Iterator[tuple[int, Tensor]]:
    """(y, logits float32 [N,K,h,w]) of the columns `lane` of images of `size`, from the top down.

    first: the row to begin with, one at which a part ended before.
    """
    targets = how.targets(size)
    if how.window and targets == [size]:
        for y, _, logits in stitched(read, size, net, how, [lane], first):
            yield y, logits
        return
    parts = [_Sized(read, (size, target), net, how, lane, first) for target in targets]
    step = max(1, min(_MOST_ROWS, ROW_BYTES // (8 * parts[0].classes * (lane[1] - lane[0]))))
    for y in range(first, size[0], step):
        total: Tensor | None = None
        for part in parts:
            logits = part.rows(y, min(y + step, size[0]))
            total = logits if total is None else total.add_(logits)
        assert total is not None
        yield y, total.div_(len(parts))


def lanes_of(size: Size, how: Inference, classes: int) -> list[tuple[int, int]]:
    """Parts [left, right) of the width that are done one after another, so that the rows held fit the memory."""
    if how.window is None:  # the net sees each size of the image once: lanes would only repeat that
        return [(0, size[1])]
    targets = how.targets(size)
    window = min(how.window[0], max(t[0] for t in targets)), min(how.window[1], max(t[1] for t in targets))
    return lanes(size[1], window, classes, [target[1] / size[1] for target in targets])


class _Sized:
    """One size of the image: its scores, resampled to rows of the image's own size as they are asked for."""

    def __init__(
        self, read: Read, sizes: tuple[Size, Size], net: nn.Module, how: Inference, lane: tuple[int, int], first: int
    ) -> None:
        """sizes: the image's own, and that at which the net sees it."""
        self._full, self._size = sizes
        self._columns = bilinear(self._size[1], self._full[1], *lane)
        self._left, right = self._columns.span
        self._top = bilinear(self._size[0], self._full[0], first, first + 1).span[0]
        self._held: Tensor | None = None  # rows from `_top` on
        self._parts = self._scores(_at_size(read, *sizes), (net, how), (self._left, right), self._top)

    @property
    def classes(self) -> int:
        """What its scores are of."""
        if self._held is None:
            self._top, self._held = next(self._parts)
        return self._held.shape[1]

    def rows(self, first: int, last: int) -> Tensor:
        """Rows [first, last) of the image's own; each call begins where the last one ended."""
        taps = bilinear(self._size[0], self._full[0], first, last)
        top, bottom = taps.span
        if self._held is None:
            self._top, self._held = next(self._parts)
        while self._top + self._held.shape[2] < bottom:
            _, part = next(self._parts)
            self._top, self._held = top, torch.cat([self._held[:, :, top - self._top :], part], dim=2)
        return resample(self._held, taps, self._columns, (self._top, self._left))

    def _scores(
        self, read: Read, net: tuple[nn.Module, Inference], lane: tuple[int, int], first: int
    ) -> Iterator[tuple[int, Tensor]]:
        how, (height, width) = net[1], self._size
        if how.window is None or (height <= how.window[0] and width <= how.window[1]):
            yield 0, run(net[0], read(0, 0, height, width), how)[:, :, :, lane[0] : lane[1]]
            return
        window = min(how.window[0], height)
        begin = max(y for y in starts(height, window, how.steps[0]) if y <= first)
        for y, _, logits in stitched(read, self._size, net[0], how, [lane], begin):
            yield y, logits


def _at_size(read: Read, full: Size, size: Size) -> Read:
    """Reads regions of the image as if it had been resized, antialiased as in `windows.segment`."""
    if full == size:
        return read

    def resized(y: int, x: int, height: int, width: int) -> Tensor:
        columns = averaging(full[1], size[1], x, x + width)
        left, right = columns.span
        step = max(1, int(_BAND / (right - left) * size[0] / full[0]))
        bands = []
        for at in range(y, y + height, step):
            rows = averaging(full[0], size[0], at, min(at + step, y + height))
            top, bottom = rows.span
            pixels = read(top, left, bottom - top, right - left)
            bands.append(resample(pixels, rows, columns, (top, left)))
        return torch.cat(bands, dim=2).contiguous(memory_format=torch.channels_last)

    return resized
