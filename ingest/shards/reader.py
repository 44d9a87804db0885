"""Opens a split of a shard folder and hands out encoded bytes, or pixels, by sample number."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import deflate
import numpy as np
from numpy.typing import NDArray

from ingest.errors import UserError
from ingest.shards import columns, columns_writer, idx, manifest, rows
from ingest.shards.areas import Areas
from ingest.shards.columns import FORMS, NAMES, Columns, IndexReader
from ingest.shards.folders import Part
from ingest.shards.handles import HEADER, Handles, check_size
from ingest.shards.idx import Member
from ingest.shards.lazy_keys import LazyKeys
from ingest.shards.manifest import IGNORE, Sample, Shard, ShardRecord
from ingest.shards.remote import urls
from ingest.shards.remote.ahead import Ahead, Order
from ingest.shards.remote.cache import Cache
from ingest.shards.remote.staged import StagedTars, Staging, open_url

Bytes = NDArray[np.uint8]


class ShardSet:
    """One split of a dataset. Sample numbers run 0..len-1 in the order of the shards.

    Raises UserError when the folder is no finished dataset, the split is unknown or empty, a tar is missing or of
    another size than the manifest says (a truncated tar), or an index is damaged; `image` and `label` when a tar was
    changed since.

    folder: a path, or a URL (`s3://...`), whose shards come into the local cache as they are read, or ahead of that
    within `following`. cache: that cache, if not the default one.
    """

    def __init__(self, folder: str | Path, split: str, cache: Cache | None = None) -> None:
        shown, staged = str(folder), open_url(str(folder), cache) if urls.is_url(folder) else None
        if isinstance(staged, Path):
            folder, staged = staged, None
        self.folder, self.split = Path(folder) if staged is None else staged.folder, split
        self._staged = staged
        self.manifest = manifest.load(folder) if staged is None else staged.manifest
        facts = self.manifest.split(split)
        if not facts.samples:
            raise UserError(f"split {split!r} of {folder} is empty: choose another split or ingest the dataset again")
        self.labeled = facts.labeled
        self._tars: Handles
        if staged is None:
            paths = [self.folder / f"{one.name}.tar" for one in facts.shards]
            self._tars = Handles(paths, [one.bytes for one in facts.shards])
            for path, shard in zip(paths, facts.shards, strict=True):
                check_size(path, _size(path), shard.bytes)
        else:
            staged.fetch_index(split)
            self._tars = StagedTars(staged, facts.shards)
        self._index: IndexReader | None = None
        if facts.index is None:
            self._columns = _read_schema_1(self.folder, facts.shards, self.labeled)
        else:
            self._index = IndexReader(self.folder / manifest.index_name(split), facts.index)
            # The rest is checked when it is asked for: it may be large, and most runs do without.
            self._index.check(*(name for name in NAMES if name not in columns.CLASS_COLUMNS))
            self._columns = self._index.columns
        self._classes_checked = False
        # Samples of each shard: what `plan.windowed_order` wants to know.
        self.counts: list[int] = [shard.samples for shard in facts.shards]
        self._shard_ends = np.cumsum(self.counts)
        if len(self._columns) != facts.samples:
            raise UserError(
                f"the index of split {split!r} lists {len(self._columns)} samples, dataset.json {facts.samples}: make "
                f"it anew with `python -m ingest reindex {self.folder}`"
            )
        self.parts = [Part(self.folder, facts.samples, shown=shown)]
        self.keys: Sequence[str] = LazyKeys(len(self._columns), self._columns.key)
        # int64 [N, 2]: heights and widths of the images, pixels
        self.sizes_hw: NDArray[np.int64] = self._columns.size_hw
        # How the split's images are stored: jpg | png | npy
        self.image_formats = frozenset(ext for i, ext in enumerate(FORMS) if (self._columns.image_form == i).any())
        # Whether they are pixels, of which `rows` reads a part, and not JPEG or PNG files.
        self.raw = "npy" in self.image_formats
        # And whether `rows` can check what it reads; not in schema 1.
        self.by_rows = self.raw and len(self._columns.row_crc32) > 0

    def __len__(self) -> int:
        return len(self._columns)

    @property
    def file_sizes(self) -> NDArray[np.int64]:
        """int64 [N, 2]: bytes of the images' and the labels' files; 0 for no label."""
        return np.stack([self._columns.image_bytes, self._columns.label_bytes], axis=1)

    def image(self, sample: int) -> Bytes:
        """The image as stored, in memory of its own: the JPEG or PNG file, uint8 [bytes], or, where images are `raw`,
        the pixels themselves, uint8 [H, W, C]."""
        content = self._tars[self._shard(sample)].read(self._image(sample))
        if not self.raw:
            return content
        try:
            return rows.decode(content, self._shape(sample))
        except ValueError as error:
            raise UserError(
                f"{self._image(sample).name} in {self.shard_of(sample)} is {error}: ingest the dataset again"
            ) from error

    def label(self, sample: int) -> Bytes:
        """The encoded label (mode-L PNG file), uint8 [bytes], in memory of its own."""
        assert self.labeled, "an unlabeled split has no labels to ask for"
        return self._tars[self._shard(sample)].read(self._label(sample))

    def damaged(self, sample: int, image: Bytes | None, label: Bytes | None = None) -> str | None:
        """Which of the sample's files, "image" or "label", is not the one that was ingested, by its CRC-32.

        image, label: as `image` and `label` gave them, or None for what is not to be checked. A flipped bit in a JPEG
        mostly decodes to a picture, of another scene. 0.1 ms for 600 kB. None where both are as they were, and in
        datasets that recorded no sums.
        """
        image_crc = int(self._columns.image_crc32[sample])  # 0: none was recorded
        if image is not None and image_crc:
            if self.raw:
                image = self._tars[self._shard(sample)].read(self._image(sample))  # the file's sum, its header counted
            if deflate.crc32(image) != image_crc:
                return "image"
        label_crc = int(self._columns.label_crc32[sample])
        if label is not None and label_crc and deflate.crc32(label) != label_crc:
            return "label"
        return None

    def rows(self, sample: int, first: int, last: int, into: Bytes | None = None) -> tuple[Bytes, int] | None:
        """Rows first..last-1 of a raw image, and a few around them: (uint8 [h, W, C], the number of the first of them).

        They are checked against the sums of their blocks; None where those differ. Only they are read.
        into: memory for the rows, uint8 [at least h * W * C]; the result is then a view of it.
        """
        height, width, channels = self._shape(sample)
        first, last = first // rows.BLOCK * rows.BLOCK, min(height, -(-last // rows.BLOCK) * rows.BLOCK)
        pitch, member = width * channels, self._image(sample)
        content = np.empty((last - first) * pitch, np.uint8) if into is None else into[: (last - first) * pitch]
        start = member.at + member.bytes - height * pitch + first * pitch
        self._tars[self._shard(sample)].read_into(content, start, member.name)
        if self.by_rows:
            begin = int(self._columns.row_end[sample - 1]) if sample else 0
            sums = self._columns.row_crc32[begin : int(self._columns.row_end[sample])]
            for block, top in enumerate(range(0, last - first, rows.BLOCK), start=first // rows.BLOCK):
                if deflate.crc32(content[top * pitch : (top + rows.BLOCK) * pitch]) != sums[block]:
                    return None
        return content.reshape(last - first, width, channels), first

    def will_need(self, samples: Iterable[int]) -> None:
        """Has the system read these samples into its cache, without waiting: call it some batches ahead."""
        found = self._columns
        for sample in samples:
            start = image = int(found.image_at[sample])
            end = image + int(found.image_bytes[sample])
            if label := int(found.label_at[sample]):
                start, end = min(start, label), max(end, label + int(found.label_bytes[sample]))
            if (tar := self._tars.ready(self._shard(sample))) is not None:
                tar.will_need(start - HEADER, end)

    @contextlib.contextmanager
    def following(self, order: Order, epoch: int, place: int, behind: int = 0) -> Iterator[Callable[[int, int], None]]:
        """Within the block, shards behind a URL are fetched in the order in which they will be read, from `place` of
        `epoch` on. Tell the result, `reached(epoch, place)`, what will be read next.

        behind: places before that which may still be read. On a local disk nothing happens.
        """
        if not isinstance(self._tars, StagedTars):
            yield lambda epoch, place: None
            return
        ahead = Ahead(self._tars, self._shard_ends, order, behind)
        ahead.start(epoch, place)
        try:
            yield ahead.reached
        finally:
            ahead.close()

    @property
    def staging(self) -> list[Staging]:
        """What is staged from URLs: one entry, none for a local folder, several in `ingest.shards.joined`."""
        if not isinstance(self._tars, StagedTars) or self._staged is None:
            return []
        return [Staging(self._staged.bucket.url, self._tars.sizes, self._staged.cache, self._tars.traffic)]

    def record(self, shard: str) -> ShardRecord:
        """`<shard>.json`, of a shard of this split."""
        if self._staged is not None:
            self._staged.fetch_record(shard)
        return manifest.load_shard(self.folder, shard)

    def shard_of(self, sample: int) -> Path:
        """The tar that holds the sample."""
        return self._tars.paths[self._shard(sample)]

    def place_of(self, sample: int) -> str:
        """The folder or URL of the sample's dataset, as `python -m ingest verify` takes it."""
        return str(self.folder) if self._staged is None else self._staged.bucket.url

    def areas(self, sample: int) -> Areas:
        """Which classes the sample's label shows, how many pixels of each, and roughly where, without decoding it."""
        found = self._classes()
        begin = int(found.class_end[sample - 1]) if sample else 0
        part = slice(begin, int(found.class_end[sample]))
        return Areas(found.class_id[part], found.class_pixels[part], found.class_grid[part])

    def class_pixels_per_sample(self) -> NDArray[np.uint32]:
        """uint32 [N, K]: pixels of each class in each label. N * K * 4 bytes of memory; UserError in schema 1."""
        found = self._classes()
        sample_of = np.repeat(np.arange(len(self)), np.diff(found.class_end, prepend=0))
        counted = found.class_id != IGNORE
        counts = np.zeros((len(self), self.manifest.num_classes), np.uint32)
        counts[sample_of[counted], found.class_id[counted]] = found.class_pixels[counted]
        return counts

    def samples_with(self, class_id: int) -> NDArray[np.int64]:
        """int64 [n]: the samples whose label shows that class, ascending. UserError in schema 1."""
        found = self._classes()
        return np.searchsorted(found.class_end, np.flatnonzero(found.class_id == class_id), side="right")

    def _classes(self) -> Columns:
        """The columns, those about classes checked. UserError where there are none."""
        if self._index is None:
            raise UserError(
                f"{self.folder} was ingested before classes were recorded per image: add them with `python -m ingest "
                f"reindex {self.folder}`, which leaves the tars as they are"
            )
        if not self._classes_checked:
            self._index.check(*columns.CLASS_COLUMNS)
            self._classes_checked = True
        return self._columns

    def _shard(self, sample: int) -> int:
        return int(np.searchsorted(self._shard_ends, sample, side="right"))

    def _image(self, sample: int) -> Member:
        ext = FORMS[self._columns.image_form[sample]]
        at, size = self._columns.image_at[sample], self._columns.image_bytes[sample]
        return Member(f"{self.keys[sample]}.{ext}", int(at), int(size))

    def _label(self, sample: int) -> Member:
        at, size = self._columns.label_at[sample], self._columns.label_bytes[sample]
        return Member(f"{self.keys[sample]}.seg.png", int(at), int(size))

    def _shape(self, sample: int) -> tuple[int, int, int]:
        height, width = self.sizes_hw[sample].tolist()
        return height, width, self.manifest.channels


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing: restore it or ingest the dataset again") from error


def _read_schema_1(folder: Path, shards: list[Shard], labeled: bool) -> Columns:
    """Columns from the records and DALI's indexes, of folders that have none."""
    parts = []
    for shard in shards:
        record = manifest.load_shard(folder, shard.name)
        members = idx.parse(folder / f"{shard.name}.idx")
        if len(members) != shard.samples or len(record.samples) != shard.samples:
            raise UserError(
                f"{folder / shard.name}.idx lists {len(members)} samples, dataset.json {shard.samples}: "
                f"the index does not match; ingest the dataset again"
            )
        pairs = zip(record.samples, members, strict=True)
        parts.append(columns_writer.of_samples([_placed(sample, files, shard, labeled) for sample, files in pairs]))
    return columns_writer.joined(parts)


def _placed(sample: Sample, files: list[Member], shard: Shard, labeled: bool) -> Sample:
    """With where its files lie."""
    by_name = {one.name: one for one in files}
    image = _find(by_name, f"{sample.key}.{sample.image_ext}", shard)
    label = _find(by_name, f"{sample.key}.seg.png", shard) if labeled else Member("", 0, 0)
    return dataclasses.replace(
        sample, image_at=image.at, image_bytes=image.bytes, label_at=label.at, label_bytes=label.bytes
    )


def _find(files: dict[str, Member], name: str, shard: Shard) -> Member:
    """The member of that name. UserError when the index has none, or places it where the tar has no room for it."""
    if name not in files:
        raise UserError(f"{shard.name}.idx has no {name!r}, {shard.name}.json does: ingest the dataset again")
    member = files[name]
    if member.at < HEADER or member.bytes < 1 or member.at + member.bytes > shard.bytes:
        raise UserError(
            f"{shard.name}.idx puts {name!r} at bytes {member.at}..{member.at + member.bytes} of a tar of "
            f"{shard.bytes}: ingest the dataset again"
        )
    return member
