"""The CPU device: threads decode and warp, a sample each, straight into the batch's memory."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from ingest.shards.reader import ShardSet
from pipeline import decode, geometry
from pipeline.batch import Batch
from pipeline.config import Stream
from pipeline.cpu import region
from pipeline.cpu.finish import finish
from pipeline.cpu.warp import Image, warp_image, warp_label
from pipeline.feeding import Feeding, OnBad
from pipeline.request import CHANGED, Request, broken, keys_of, mean_color
from pipeline.workers import Job, in_order


@dataclass(frozen=True)
class _Source:
    """What all crops of a stream have in common."""

    shards: ShardSet
    fill: list[int]
    """The color outside an image, uint8 per channel."""
    on_bad: OnBad


def crops(shards: ShardSet, requests: Iterable[Request], stream: Stream, feeding: Feeding) -> Generator[Batch]:
    """Training batches."""
    source = _Source(shards, mean_color(shards), feeding.on_bad_sample)
    size = stream.augment.crop

    def batches() -> Generator[tuple[tuple[Request, torch.Tensor, torch.Tensor], list[Job]]]:
        for request in requests:
            images = _empty((len(request.samples), *size, len(source.fill)), feeding)
            labels = _empty((len(request.samples), *size), feeding)
            outs = images.numpy(), labels.numpy()
            jobs: list[Job] = [
                partial(_crop, source, request, i, outs[0][i], outs[1][i]) for i in range(len(request.samples))
            ]
            yield (request, images, labels), jobs

    for (request, images, labels), reasons in in_order(batches(), feeding.workers, feeding.prefetch):
        keys = keys_of(shards, request)
        skipped = {key: reason for key, reason in zip(keys, reasons, strict=True) if reason}
        yield Batch(images.permute(0, 3, 1, 2), labels, keys, skipped)


def whole_images(shards: ShardSet, requests: Iterable[Request], feeding: Feeding) -> Generator[Batch]:
    """Evaluation batches: images of equal size as they are. UserError on a broken file."""

    def batches() -> Generator[tuple[tuple[Request, torch.Tensor, torch.Tensor | None], list[Job]]]:
        for request in requests:
            size = (len(request.samples), *shards.sizes_hw[request.samples[0]].tolist())
            images = _empty((*size, shards.manifest.channels), feeding)
            labels = _empty(size, feeding) if shards.labeled else None
            jobs: list[Job] = [
                partial(_whole, shards, int(sample), images.numpy()[i], None if labels is None else labels.numpy()[i])
                for i, sample in enumerate(request.samples)
            ]
            yield (request, images, labels), jobs

    for (request, images, labels), _ in in_order(batches(), feeding.workers, feeding.prefetch):
        yield Batch(images.permute(0, 3, 1, 2), labels, keys_of(shards, request))


def _empty(shape: tuple[int, ...], feeding: Feeding) -> torch.Tensor:
    return torch.empty(shape, dtype=torch.uint8, pin_memory=feeding.pinned)


def _crop(source: _Source, request: Request, i: int, out_image: Image, out_label: Image) -> str | None:
    """Makes one crop; what is wrong with the sample when it is skipped."""
    assert request.matrices is not None and request.sigmas is not None and request.downsample is not None
    shards, fill = source.shards, source.fill
    sample, matrix, factor = int(request.samples[i]), request.matrices[i], int(request.downsample[i])
    encoded, encoded_label = None if shards.by_rows else shards.image(sample), shards.label(sample)
    kind = "image"
    try:
        if damaged := shards.damaged(sample, encoded, encoded_label):
            kind = damaged
            raise decode.DecodeError(CHANGED)
        if encoded is None:
            image = region.read(shards, sample, matrix, out_label.shape, factor)
        else:
            image = decode.image(encoded, factor, padded=len(fill) == 3)
            _check_size(image, shards, sample, factor)
        kind = "label"
        label = decode.label(encoded_label)
        _check_size(label, shards, sample, 1)
    except decode.DecodeError as error:
        if source.on_bad == "error":
            raise broken(shards, sample, kind, error) from error
        out_image[:], out_label[:] = fill, 255
        return f"its {kind} is broken ({error})"
    around = fill if request.colors is None else request.colors.padding[i].tolist()
    warp_image(image, geometry.after_downsampling(matrix, factor), out_image, around)
    finish(out_image, request, i, fill)
    warp_label(label, matrix, out_label)
    return None


def _check_size(pixels: Image, shards: ShardSet, sample: int, factor: int) -> None:
    """DecodeError unless the pixels have the recorded size, which the crop's geometry was made for."""
    height, width = shards.sizes_hw[sample].tolist()
    if pixels.shape[:2] != (-(-height // factor), -(-width // factor)):
        raise decode.DecodeError(f"it has another size than the {width}x{height} pixels on record")


def _whole(shards: ShardSet, sample: int, out_image: Image, out_label: Image | None) -> None:
    # Read outside the `try`: what reading says of a shard is no fault of the sample.
    image, label = None if shards.by_rows else shards.image(sample), None if out_label is None else shards.label(sample)
    # Pixels go straight into the batch, and are checked there.
    sound = image is not None or shards.rows(sample, 0, out_image.shape[0], out_image.reshape(-1)) is not None
    kind = "image"
    try:
        if not sound:
            raise decode.DecodeError(CHANGED)
        if damaged := shards.damaged(sample, image, label):
            kind = damaged
            raise decode.DecodeError(CHANGED)
        if image is not None:
            decode.image(image, out=out_image)
        if label is not None and out_label is not None:
            kind = "label"
            np.copyto(out_label, decode.label(label))
    except ValueError as error:  # also a size other than the record's
        raise broken(shards, sample, kind, error) from error
