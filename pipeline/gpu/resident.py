"""`data.cache: gpu`: every image of a split decoded once and kept on the device; a batch costs only its crops there.

What travels for a batch are sample numbers and matrices, some hundred bytes a sample. The device may be a CPU, so that
this is tested without a GPU. Written for one, and **not yet measured on one**.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ingest.errors import UserError
from ingest.shards.reader import ShardSet
from pipeline import decode, geometry
from pipeline.batch import Batch
from pipeline.config import Stream
from pipeline.feeding import Feeding
from pipeline.gpu import sampling
from pipeline.request import CHANGED, Request, broken, keys_of, mean_color
from pipeline.workers import Job, in_order

_AT_ONCE = 16  # samples that are decoded, then copied
_SHARE = 0.7  # of the GPU's free memory that the images may take: the net is still to come


@dataclass(frozen=True)
class Store:
    """N decoded samples on a device. Of each image also its downsampled versions: level k is by 2**k."""

    pixels: Tensor
    """uint8 [P, C]: all levels of all images, row after row."""
    labels: Tensor
    """uint8 [Q]."""
    at: Tensor
    """int64 [N, levels]: where each begins in `pixels`."""
    hw: Tensor
    """int64 [N, levels, 2]: heights and widths; 0 of a damaged sample."""
    label_at: Tensor
    """int64 [N]."""
    bad: dict[int, str]
    """Damaged samples, and why; only where they may be skipped."""


def crops(shards: ShardSet, requests: Iterable[Request], stream: Stream, feeding: Feeding) -> Generator[Batch]:
    """Training batches on `feeding.copy_to`, or else `feeding.device`. UserError when the split does not fit there."""
    device = feeding.copy_to or feeding.device
    store = load(shards, geometry.most_downsample_steps(shards.sizes_hw, stream.augment) + 1, feeding, device)
    fill = mean_color(shards)
    for request in requests:
        images, labels = make(store, request, stream.augment.crop, fill)
        skipped = {shards.keys[s]: store.bad[int(s)] for s in request.samples if int(s) in store.bad}
        yield Batch(images.permute(0, 3, 1, 2), labels, keys_of(shards, request), skipped)


def make(store: Store, request: Request, size: tuple[int, int], fill: list[int]) -> tuple[Tensor, Tensor]:
    """One batch: images uint8 [B, h, w, C], labels uint8 [B, h, w]. fill: the color outside, uint8 per channel."""
    assert request.matrices is not None and request.sigmas is not None and request.downsample is not None
    device = store.pixels.device
    pairs = zip(request.matrices, request.downsample, strict=True)
    reduced = np.stack([geometry.after_downsampling(matrix, int(factor)) for matrix, factor in pairs])
    samples = _sent(request.samples, device)
    levels = _sent(np.log2(request.downsample).astype(np.int64), device)
    around = np.tile(fill, (len(reduced), 1)) if request.colors is None else request.colors.padding
    images = sampling.bilinear(
        store.pixels,
        store.at[samples, levels],
        store.hw[samples, levels],
        sampling.points(_sent(reduced.astype(np.float32), device), size),
        _sent(around.astype(np.float32), device),
    )
    if request.colors is not None:
        images = sampling.recolored(images, _sent(request.colors.maps, device))
    images = sampling.blurred(images, request.sigmas)
    if request.erased is not None:
        images = sampling.erased(images, _sent(request.erased, device), fill)
    places = sampling.points(_sent(request.matrices.astype(np.float32), device), size)
    labels = sampling.nearest(store.labels, store.label_at[samples], store.hw[samples, 0], places)
    return images.contiguous(), labels


def load(shards: ShardSet, levels: int, feeding: Feeding, device: torch.device) -> Store:
    """Decodes the split into the device's memory. UserError when it has not enough, or of a damaged sample that is not
    to be skipped."""
    sizes = shards.sizes_hw
    hw = np.stack([-(-sizes // 2**level) for level in range(levels)], axis=1)  # [N, levels, 2]
    areas = hw.prod(axis=2)
    channels, count = shards.manifest.channels, len(shards)
    needed = int(areas.sum()) * channels + int(areas[:, 0].sum())
    _check_room(needed, device)
    pixels = torch.empty((max(1, int(areas.sum())), channels), dtype=torch.uint8, device=device)
    labels = torch.empty(max(1, int(areas[:, 0].sum())), dtype=torch.uint8, device=device)
    at = (np.cumsum(areas.ravel()) - areas.ravel()).reshape(areas.shape)
    label_at = np.cumsum(areas[:, 0]) - areas[:, 0]
    bad: dict[int, str] = {}
    groups = [np.arange(first, min(count, first + _AT_ONCE)) for first in range(0, count, _AT_ONCE)]
    with shards.following(lambda epoch: np.arange(0 if epoch else count), 0, 0) as reached:

        def jobs() -> Generator[tuple[NDArray[np.int64], list[Job]]]:
            for group in groups:
                reached(0, int(group[0]))
                yield group, [partial(_decoded, shards, int(sample), levels) for sample in group]

        for group, results in in_order(jobs(), feeding.workers, feeding.prefetch):
            for sample, (found, reason, kind) in zip(group.tolist(), results, strict=True):
                if reason is not None:
                    if feeding.on_bad_sample == "error":
                        raise broken(shards, sample, kind, reason)
                    bad[sample] = f"its {kind} is broken ({reason})"
                    hw[sample] = 0
                    continue
                *images, label = found
                for level, image in enumerate(images):
                    begin = int(at[sample, level])
                    pixels[begin : begin + int(areas[sample, level])] = torch.from_numpy(image.reshape(-1, channels))
                begin = int(label_at[sample])
                labels[begin : begin + label.size] = torch.from_numpy(label.reshape(-1))
    places, sizes_there, label_places = (torch.from_numpy(one).to(device) for one in (at, hw, label_at))
    return Store(pixels, labels, places, sizes_there, label_places, bad)


def _decoded(shards: ShardSet, sample: int, levels: int) -> tuple[list[NDArray[np.uint8]], object | None, str]:
    """([each level of the image, and the label], what is wrong with the sample, "image" or "label")."""
    encoded, encoded_label = shards.image(sample), shards.label(sample)
    height, width = shards.sizes_hw[sample].tolist()
    if damaged := shards.damaged(sample, encoded, encoded_label):
        return [], CHANGED, damaged
    kind = "image"
    try:
        image = decode.image(encoded, out=np.empty((height, width, shards.manifest.channels), np.uint8))
        kind = "label"
        label = np.ascontiguousarray(decode.label(encoded_label, (height, width)))
    except ValueError as error:  # also a size other than the record's
        return [], error, kind
    return [*(decode.downsampled(image, 2**level) for level in range(levels)), label], None, ""


def _check_room(needed: int, device: torch.device) -> None:
    if device.type != "cuda":
        return
    free = torch.cuda.mem_get_info(device)[0]
    if needed > _SHARE * free:
        raise UserError(
            f"data.cache = gpu: the decoded split takes {needed / 1e9:.1f} GB, and {device} has {free / 1e9:.1f} GB "
            f"free, of which images may take {_SHARE:.0%}: set data.cache=none, or ingest smaller images (--max-side)"
        )


def _sent(array: NDArray[Any], device: torch.device) -> Tensor:
    """On the device, without waiting for it."""
    tensor = torch.from_numpy(np.ascontiguousarray(array))
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor
