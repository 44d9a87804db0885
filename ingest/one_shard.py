"""One planned shard, written: tar, index and record, from its samples as they are converted."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ingest.convert import Converted
from ingest.errors import UserError
from ingest.plan import Planned, PlannedShard
from ingest.shards import manifest, summary
from ingest.shards.idx import Member
from ingest.shards.manifest import Sample, ShardRecord, Skipped
from ingest.shards.tar import TarWriter
from ingest.sources.raw import Pair


def write_shard(
    shard: PlannedShard,
    folder: Path,
    converted: Iterator[Converted | Skipped],
    num_classes: int,
    done: Callable[[], object] = lambda: None,
) -> None:
    """Makes tar, index and record of a shard in `folder`, the record last.

    converted: gives the shard's samples next, in their order. done: called after each. UserError when every sample is
    broken; then, as on any error, no tar is left.
    """
    tar = TarWriter(folder, shard.name)
    samples, totals = [], _Totals()
    skipped: list[Skipped] = []
    try:
        for planned in shard.samples:
            result = next(converted)
            if isinstance(result, Skipped):
                skipped.append(result)
            else:
                files = _files(planned.pair, result)
                samples.append(_sample(planned, result, files, tar.add(planned.key, files)))
                totals.add(result)
            done()
        if not samples:
            raise UserError(f"every sample of {shard.name} is broken, the first: {skipped[0].reason}")
        digest = tar.close()
    except BaseException:
        tar.abort()
        raise
    class_pixels, ignored = summary.class_totals(samples, num_classes)
    record = ShardRecord(
        shard.name,
        tar.size,
        digest,
        class_pixels,
        ignored,
        totals.channels,
        totals.squares,
        samples,
        skipped,
        totals.unmatched,
    )
    manifest.save_shard(record, folder)


@dataclass
class _Totals:
    """A shard's totals over its images, those of pixels per channel."""

    channels: list[int] = field(default_factory=list)
    squares: list[int] = field(default_factory=list)
    unmatched: int = 0

    def add(self, image: Converted) -> None:
        self.channels = summary.add([self.channels or [0] * len(image.channel_sum), image.channel_sum])
        self.unmatched += image.unmatched
        self.squares = summary.add([self.squares or [0] * len(image.channel_sum), image.channel_square_sum])


def _files(pair: Pair, sample: Converted) -> list[tuple[str, bytes]]:
    image: list[tuple[str, bytes]] = [(sample.image_ext, sample.image or pair.image.read())]
    return image if sample.label is None else [*image, ("seg.png", sample.label)]


def _sample(planned: Planned, result: Converted, files: list[tuple[str, bytes]], members: list[Member]) -> Sample:
    """What the shard's record says of a sample."""
    pair, crcs = planned.pair, [zlib.crc32(data) for _, data in files]
    return Sample(
        key=planned.key,
        image=pair.image.name,
        label=pair.label.name if pair.label else None,
        image_ext=result.image_ext,
        height=result.height,
        width=result.width,
        offset=list(pair.window[:2]) if pair.window else None,
        image_crc32=crcs[0],
        label_crc32=crcs[1] if pair.label else None,
        image_at=members[0].at,
        image_bytes=members[0].bytes,
        label_at=members[1].at if pair.label else None,
        label_bytes=members[1].bytes if pair.label else None,
        row_crc32=result.row_crc32,
        classes=result.classes,
        geo=pair.place.as_dict() if pair.place else None,
    )
