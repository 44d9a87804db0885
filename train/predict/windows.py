"""From images to scores: whole or in overlapping windows, at one scale or several, mirrored or not.

Evaluation and prediction share this. Scores are logits; what overlaps, and what several scales and the mirror image
give, is averaged as logits. In a window the middle counts most: a Gaussian of an eighth of the window's side, along
each side never less than a thousandth. Windows lie on a grid, the last of a row and column moved in, so that all have
one size and are run several at a time; scores are kept for one row of windows only, and handed on as soon as no later
window reaches them: memory does not grow with the image.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from ingest.errors import UserError
from train import model

Read = Callable[[int, int, int, int], Tensor]
"""(y, x, height, width) -> that part of the images, uint8 [N,C,height,width], on the net's device."""

_SIGMA = 1 / 8  # of the Gaussian, as a share of the window's side
_LEAST = 1e-3  # weight of a window's border along each side
ROW_BYTES = 256 << 20  # of the scores of a row of windows; wider images are done in lanes


@dataclass(frozen=True)
class Inference:
    """How images become scores. UserError where pixels between the windows would be left out."""

    amp: str = "auto"
    """Autocast: auto | bf16 | fp16 | off."""
    size: int = 0
    """Images are first scaled so that one side has so many pixels (the recipe's data.val_size); 0: as they are."""
    side: str = "longer"
    window: tuple[int, int] | None = None
    """Height and width; None: whole images."""
    stride: tuple[int, int] | None = None
    """From window to window; None: two thirds of a window."""
    scales: tuple[float, ...] = (1.0,)
    flip: bool = False
    batch: int = 0
    """Windows at a time; 0: one on a CPU, whose caches hold no more, and 8 on a GPU."""

    def __post_init__(self) -> None:
        if self.window and self.stride:
            for name, side, step in zip(("high", "wide"), self.window, self.stride, strict=True):
                if step > side:
                    raise UserError(
                        f"--stride {_hxw(self.stride)} leaves pixels between windows {side} {name} uncovered: "
                        f"at most the --window's {_hxw(self.window)}"
                    )
        if self.stride and not self.window:
            raise UserError("--stride without --window: give both, or neither")

    @property
    def steps(self) -> tuple[int, int]:
        """The stride, its default included."""
        assert self.window is not None
        return self.stride or (math.ceil(self.window[0] * 2 / 3), math.ceil(self.window[1] * 2 / 3))

    @property
    def plain(self) -> bool:
        """Whether an image is run once, as it is."""
        return self.window is None and self.scales == (1.0,) and not self.flip and not self.size

    def targets(self, size: tuple[int, int]) -> list[tuple[int, int]]:
        """The sizes (height, width) at which the net sees an image of `size`, one a scale."""
        height, width = scaled_size(*size, self.size, self.side)
        return [(max(1, round(height * scale)), max(1, round(width * scale))) for scale in self.scales]

    def describe(self) -> str:
        """In words: `whole images`, `windows of 512x512, stride 341x341, scales 0.5, 1, mirrored`."""
        parts = [f"windows of {_hxw(self.window)}, stride {_hxw(self.steps)}" if self.window else "whole images"]
        if self.size:
            parts.append(f"{self.side} side scaled to {self.size}")
        if self.scales != (1.0,):
            parts.append("scales " + ", ".join(f"{scale:g}" for scale in self.scales))
        return ", ".join([*parts, "mirrored"] if self.flip else parts)


def segment(net: nn.Module, images: Tensor, how: Inference) -> Tensor:
    """Images uint8 [N,C,H,W] on the net's device -> logits [N,K,H,W]; in float32 where anything was resized."""
    full = (images.shape[2], images.shape[3])
    total: Tensor | None = None
    for target in how.targets(full):
        logits = _one_scale(net, _resized(images, target), how)
        if target != full:
            logits = interpolate(logits.float(), size=full, mode="bilinear", align_corners=False)
        total = logits if total is None else total.float().add_(logits)
    assert total is not None
    return total.div_(len(how.scales)) if len(how.scales) > 1 else total


def scaled_size(height: int, width: int, size: int, side: str) -> tuple[int, int]:
    """Height and width after scaling so that the longer or shorter side has `size` pixels; 0: as they are."""
    if not size:
        return height, width
    scale = size / (max if side == "longer" else min)(height, width)
    return max(1, round(height * scale)), max(1, round(width * scale))


def stitched(
    read: Read,
    size: tuple[int, int],
    net: nn.Module,
    how: Inference,
    lanes: Sequence[tuple[int, int]] = (),
    first: int = 0,
) -> Iterator[tuple[int, int, Tensor]]:
    """Parts (y, x, logits float32 [N,K,h,w]) that together cover images of `size` (height, width), each pixel once.

    lanes: parts [left, right) of the width, done one after another, each from the top down (see `lanes`). first: the
    row to begin with, one at which a part ended before.
    """
    assert how.window is not None
    window = min(how.window[0], size[0]), min(how.window[1], size[1])
    ys, xs = (starts(*each) for each in zip(size, window, how.steps, strict=True))
    for left, right in lanes or [(0, size[1])]:
        columns = [x for x in xs if x < right and x + window[1] > left]
        # The windows that reach into the first row wanted, though they began above it.
        rows = [y for y in ys if y + window[0] > first]
        if first >= size[0]:
            continue
        for y, logits in _lane(read, (rows, columns), window, size[0], (net, how)):
            if y < first:  # a row of windows ends where the next begins: it was handed on before
                continue
            yield y, left, logits[:, :, :, left - columns[0] : right - columns[0]]


def _lane(
    read: Read,
    grid: tuple[list[int], list[int]],
    window: tuple[int, int],
    height: int,
    how: tuple[nn.Module, Inference],
) -> Iterator[tuple[int, Tensor]]:
    """(y, mean logits [N,K,h,w]) from the top down, over all columns of the grid: windows at its y's and x's."""
    (ys, xs), (net, inference) = grid, how
    first, width = xs[0], xs[-1] + window[1] - xs[0]
    weight, row = gaussian(window), torch.empty(0)  # row: weighted sums of logits, and the sum of weights
    with ThreadPoolExecutor(1) as reader:  # the next row's pixels are read while the net runs
        ahead = reader.submit(read, ys[0], first, window[0], width)
        for y, following in zip(ys, [*ys[1:], None], strict=True):
            strip = ahead.result()
            batch = inference.batch or (1 if strip.device.type == "cpu" else 8)
            if following is not None:
                ahead = reader.submit(read, following, first, window[0], width)
            for at in range(0, len(xs), batch):
                places = [slice(x - first, x - first + window[1]) for x in xs[at : at + batch]]
                logits = run(net, torch.cat([strip[:, :, :, place] for place in places]), inference).float()
                if not row.numel():
                    row = _like(logits, (len(strip), logits.shape[1] + 1, window[0], width)).zero_()
                    weight = weight.to(logits.device)
                for place, part in zip(places, logits.split(len(strip)), strict=True):
                    row[:, :-1, :, place].addcmul_(part, weight)
                    row[:, -1, :, place].add_(weight)
            done = (height if following is None else following) - y
            yield y, row[:, :-1, :done] / row[:, -1:, :done]
            kept = window[0] - done  # moved up in the same memory: new pages cost more than the sums
            row[:, :, :kept] = row[:, :, done:].clone()
            row[:, :, kept:] = 0


def lanes(width: int, window: tuple[int, int], classes: int, scales: Sequence[float] = (1.0,)) -> list[tuple[int, int]]:
    """Parts [left, right) of an image's width whose rows of scores fit ROW_BYTES, each at least a window wide.

    scales: of the widths at which it is done at once.
    """
    held = ROW_BYTES // (4 * (classes + 1) * window[0]) - 2 * window[1] * len(scales)
    widest = max(window[1], int(held / sum(scales)))
    count = max(1, math.ceil(width / widest))
    edges = [round(width * number / count) for number in range(count + 1)]
    return list(itertools.pairwise(edges))


def starts(length: int, window: int, stride: int) -> list[int]:
    """Where windows begin along one side: every `stride`, the last one moved in so that it ends with the image."""
    return [*range(0, length - window, stride), length - window]


def gaussian(window: tuple[int, int]) -> Tensor:
    """The weight of each pixel of a window, float32 [h, w], 1 in its middle."""
    axes = []
    for side in window:
        place = torch.arange(side, dtype=torch.float64) - (side - 1) / 2
        # The least weight goes by sides: in a corner of the image, too, a window's border counts less than its inside.
        axes.append(torch.exp(-0.5 * (place / (side * _SIGMA)) ** 2).clamp_(min=_LEAST))
    return torch.outer(*axes).float()


def _like(logits: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Memory laid out as the net lays out its scores: adding across layouts takes several times as long."""
    last = logits.is_contiguous(memory_format=torch.channels_last)
    layout = torch.channels_last if last else torch.contiguous_format
    return torch.empty(shape, dtype=logits.dtype, device=logits.device, memory_format=layout)


def _resized(images: Tensor, size: tuple[int, int]) -> Tensor:
    if size == (images.shape[2], images.shape[3]):
        return images
    # antialias: an image that is scaled down is averaged, as the training crops are
    scaled = interpolate(images.float(), size=size, mode="bilinear", align_corners=False, antialias=True)
    return scaled.contiguous(memory_format=torch.channels_last)


def _one_scale(net: nn.Module, images: Tensor, how: Inference) -> Tensor:
    if how.window is None or (images.shape[2] <= how.window[0] and images.shape[3] <= how.window[1]):
        return run(net, images, how)
    size = (images.shape[2], images.shape[3])

    def read(y: int, x: int, height: int, width: int) -> Tensor:
        return images[:, :, y : y + height, x : x + width]

    whole: Tensor | None = None
    for y, x, logits in stitched(read, size, net, how):
        if whole is None:
            whole = _like(logits, (*logits.shape[:2], *size))
        whole[:, :, y : y + logits.shape[2], x : x + logits.shape[3]] = logits
    assert whole is not None
    return whole


def run(net: nn.Module, images: Tensor, how: Inference) -> Tensor:
    """Images [N,C,h,w] -> logits [N,K,h,w]: one pass, or two with the mirror image."""
    with model.autocast(how.amp, images.device):
        logits = net(images)
        return (logits + net(images.flip(3)).flip(3)) / 2 if how.flip else logits


def _hxw(size: tuple[int, int] | None) -> str:
    return f"{size[0]}x{size[1]}" if size else "whole"
