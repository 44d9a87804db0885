"""Opens a shard folder and hands out encoded bytes by sample number: views of the mapped tars, nothing copied."""

from __future__ import annotations

import mmap
from dataclasses import dataclass
from pathlib import Path

import deflate
import numpy as np
from numpy.typing import NDArray

from ingest import manifest, remote
from ingest.errors import UserError

Bytes = NDArray[np.uint8]

_HEADER = 512  # bytes of a tar member's header, before its data


@dataclass(frozen=True)
class _Member:
    """Where one file's bytes lie: offset and size in the shard's tar."""

    name: str
    offset: int
    size: int


class ShardSet:
    """One split of a dataset. Sample numbers run 0..len-1 in the order of the shards.

    Raises UserError when the folder is no finished dataset, the split is unknown or empty, a tar is missing or of
    another size than the manifest says (a truncated tar), or an index does not match its tar.

    folder: a path, or a URL (`s3://...`), which is staged into the local cache first.
    """

    def __init__(self, folder: str | Path, split: str) -> None:
        if remote.is_url(folder):
            folder = remote.stage(str(folder))
        self.folder, self.split = Path(folder), split
        self.manifest = manifest.load(folder)
        facts = self.manifest.split(split)
        if not facts.samples:
            raise UserError(f"split {split!r} of {folder} is empty: choose another split or ingest the dataset again")
        self.labeled = facts.labeled
        self.keys: list[str] = []
        self._tars: list[mmap.mmap] = []
        self._samples: list[tuple[int, _Member, _Member | None]] = []
        self._crcs: list[tuple[int | None, int | None]] = []
        sizes: list[tuple[int, int]] = []
        for number, shard in enumerate(facts.shards):
            record = manifest.load_shard(folder, shard.name)
            members = _read_index(self.folder / f"{shard.name}.idx")
            if len(members) != shard.samples or len(record.samples) != shard.samples:
                raise UserError(
                    f"{self.folder / shard.name}.idx lists {len(members)} samples, dataset.json {shard.samples}: "
                    f"the index does not match; ingest the dataset again"
                )
            self._tars.append(_map(self.folder / f"{shard.name}.tar", shard.bytes))
            for sample, files in zip(record.samples, members, strict=True):
                image = _find(files, f"{sample.key}.{sample.image_ext}", shard)
                label = _find(files, f"{sample.key}.seg.png", shard) if self.labeled else None
                self._crcs.append((sample.image_crc32, sample.label_crc32))
                self._samples.append((number, image, label))
                self.keys.append(sample.key)
                sizes.append((sample.height, sample.width))
        # Samples of each shard: what `plan.windowed_order` wants to know.
        self.counts: list[int] = [shard.samples for shard in facts.shards]
        # int64 [N, 2]: heights and widths of the images, pixels
        self.sizes_hw: NDArray[np.int64] = np.array(sizes, dtype=np.int64)

    def __len__(self) -> int:
        return len(self._samples)

    def image(self, sample: int) -> Bytes:
        """The image as stored, a read-only view of the tar.

        Three channels: the JPEG or PNG file, uint8 [bytes]. Any other number: the pixels themselves, uint8 [H, W, C].
        """
        shard, image, _ = self._samples[sample]
        content = self._view(shard, image)
        if self.manifest.channels == 3:
            return content
        # a .npy file of version 1: magic (6), version (2), length of the header (2), header, data
        data = content[10 + int(content[8]) + 256 * int(content[9]) :]
        shape = (*self.sizes_hw[sample].tolist(), self.manifest.channels)
        if content[:8].tobytes() != b"\x93NUMPY\x01\x00" or data.size != np.prod(shape):
            raise UserError(
                f"{image.name} in {self.shard_of(sample)} is no .npy of shape {list(shape)}: ingest the dataset again"
            )
        return data.reshape(shape)

    def label(self, sample: int) -> Bytes:
        """The encoded label (mode-L PNG file), uint8 [bytes], a read-only view of the tar."""
        shard, _, label = self._samples[sample]
        assert label is not None, "an unlabelled split has no labels to ask for"
        return self._view(shard, label)

    def damaged(self, sample: int) -> str | None:
        """Which of the sample's files, "image" or "label", is not the one that was ingested, by its CRC-32.

        A flipped bit in a JPEG mostly decodes to a picture, of another scene. 0.1 ms for 600 kB. None where both are
        as they were, and in datasets that recorded no sums.
        """
        shard, *members = self._samples[sample]
        for kind, member, crc in zip(("image", "label"), members, self._crcs[sample], strict=True):
            if member is not None and crc is not None and deflate.crc32(self._view(shard, member)) != crc:
                return kind
        return None

    def shard_of(self, sample: int) -> Path:
        """The tar that holds the sample."""
        return self.folder / f"{self.manifest.split(self.split).shards[self._samples[sample][0]].name}.tar"

    def _view(self, shard: int, member: _Member) -> Bytes:
        tar = self._tars[shard]
        # The name in the header before the data costs nothing to check and catches an index of another tar.
        header = member.offset - _HEADER
        if tar[header : header + len(member.name) + 1] != member.name.encode() + b"\0":
            name = self.manifest.split(self.split).shards[shard].name
            raise UserError(
                f"{self.folder / name}.idx does not match {name}.tar at {member.name!r}: ingest the dataset again"
            )
        return np.frombuffer(tar, dtype=np.uint8, count=member.size, offset=member.offset)


def _read_index(path: Path) -> list[dict[str, _Member]]:
    """Reads a DALI v1.2 index: a line a sample, `<ext> <offset> <size> <name>` for each of its files."""
    try:
        header, *lines = path.read_text().splitlines()
        if header.split() != ["v1.2", str(len(lines))]:
            raise ValueError(f"header {header!r} over {len(lines)} lines")
        samples = []
        for line in lines:
            words = line.split()
            fields = zip(words[1::4], words[2::4], words[3::4], strict=True)
            samples.append({name: _Member(name, int(offset), int(size)) for offset, size, name in fields})
        return samples
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing: restore it or ingest the dataset again") from error
    except ValueError as error:
        raise UserError(f"{path} is damaged ({error}): ingest the dataset again") from error


def _map(path: Path, expected: int) -> mmap.mmap:
    """Maps a tar read-only, its size checked first: reading past a truncated file would kill the process."""
    try:
        with open(path, "rb") as file:
            actual = file.seek(0, 2)
            if actual != expected:
                raise UserError(
                    f"{path} has {actual} bytes, dataset.json says {expected}: "
                    f"the shard is truncated or of another run; copy it again or ingest the dataset again"
                )
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing: restore it or ingest the dataset again") from error


def _find(files: dict[str, _Member], name: str, shard: manifest.Shard) -> _Member:
    """The member of that name. UserError when the index has none, or places it where the tar has no room for it."""
    if name not in files:
        raise UserError(f"{shard.name}.idx has no {name!r}, {shard.name}.json does: ingest the dataset again")
    member = files[name]
    if member.offset < _HEADER or member.size < 1 or member.offset + member.size > shard.bytes:
        raise UserError(
            f"{shard.name}.idx puts {name!r} at bytes {member.offset}..{member.offset + member.size} of a tar of "
            f"{shard.bytes}: ingest the dataset again"
        )
    return member
