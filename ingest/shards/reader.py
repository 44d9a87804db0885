"""Opens a shard folder and hands out encoded bytes by sample number.

Bytes are read (`pread`), not mapped: where a mapped tar is truncated or its disk fails, the kernel kills the process
with SIGBUS; a read says so. It costs 20 us more than a mapped file for 110 KB, 190 us for 1.2 MB, 1 to 2% of decoding
either (docs/performance.md).
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import deflate
import numpy as np
from numpy.typing import NDArray

from ingest.errors import UserError
from ingest.shards import manifest, remote

Bytes = NDArray[np.uint8]


_HEADER = 512  # bytes of a tar member's header, before its data


@dataclass(frozen=True)
class _Member:
    """Where one file's bytes lie: offset and size in the shard's tar."""

    name: str
    offset: int
    size: int


class _Tar:
    """An open tar of a known size. The file stays readable when it is deleted or replaced by another."""

    def __init__(self, path: Path, expected: int) -> None:
        self.path = path
        try:
            self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError as error:
            raise UserError(f"{path} is missing: restore it or ingest the dataset again") from error
        except OSError as error:
            if error.errno != errno.EMFILE:
                raise
            raise UserError(
                f"{path}: too many open files; allow more (ulimit -n) or ingest with a larger --shard-size"
            ) from error
        actual = os.fstat(self._file).st_size
        if actual != expected:
            raise UserError(
                f"{path} has {actual} bytes, dataset.json says {expected}: "
                f"the shard is truncated or of another run; copy it again or ingest the dataset again"
            )

    def __del__(self) -> None:
        if hasattr(self, "_file"):
            os.close(self._file)

    def read(self, member: _Member) -> Bytes:
        """The member's bytes. UserError when they are not there or the header before them names another file."""
        content = np.empty(_HEADER + member.size, dtype=np.uint8)
        got = 0
        try:
            # Network file systems may give less than is asked for; nothing at all is the end of the file.
            while got < len(content) and (more := self._read_at(content.data[got:], member.offset - _HEADER + got)):
                got += more
        except OSError as error:  # a failing disk; on a network file system also a file that was replaced (ESTALE)
            raise UserError(
                f"{member.name} in {self.path} cannot be read ({error.strerror}): check the disk, and see that nothing "
                f"writes to the shards while they are in use"
            ) from error
        if got != len(content):
            raise UserError(
                f"{self.path} ends inside {member.name}: it was truncated while in use; "
                f"copy it again or ingest the dataset again"
            )
        # The header costs nothing to check, and catches an index of another tar.
        if content[: len(member.name) + 1].tobytes() != member.name.encode() + b"\0":
            raise UserError(
                f"{self.path.with_suffix('.idx')} does not match {self.path.name} at {member.name!r}: "
                f"ingest the dataset again"
            )
        return content[_HEADER:]

    def _read_at(self, into: memoryview, offset: int) -> int:
        return os.preadv(self._file, [into], offset)

    def will_need(self, start: int, end: int) -> None:
        """Tells the system to read bytes start..end soon, and does not wait."""
        os.posix_fadvise(self._file, start, end - start, os.POSIX_FADV_WILLNEED)


class ShardSet:
    """One split of a dataset. Sample numbers run 0..len-1 in the order of the shards.

    Raises UserError when the folder is no finished dataset, the split is unknown or empty, a tar is missing or of
    another size than the manifest says (a truncated tar), or an index does not match its tar; `image` and `label` when
    a tar was changed since.

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
        formats: set[str] = set()
        self._tars: list[_Tar] = []
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
            self._tars.append(_Tar(self.folder / f"{shard.name}.tar", shard.bytes))
            for sample, files in zip(record.samples, members, strict=True):
                image = _find(files, f"{sample.key}.{sample.image_ext}", shard)
                label = _find(files, f"{sample.key}.seg.png", shard) if self.labeled else None
                self._crcs.append((sample.image_crc32, sample.label_crc32))
                self._samples.append((number, image, label))
                self.keys.append(sample.key)
                sizes.append((sample.height, sample.width))
                formats.add(sample.image_ext)
        # How the split's images are stored: jpg | png | npy
        self.image_formats: frozenset[str] = frozenset(formats)
        # Samples of each shard: what `plan.windowed_order` wants to know.
        self.counts: list[int] = [shard.samples for shard in facts.shards]
        # int64 [N, 2]: heights and widths of the images, pixels
        self.sizes_hw: NDArray[np.int64] = np.array(sizes, dtype=np.int64)
        # int64 [N, 2]: bytes of the images' and the labels' files; 0 for no label
        self.file_sizes: NDArray[np.int64] = np.array(
            [(image.size, label.size if label else 0) for _, image, label in self._samples], dtype=np.int64
        )

    def __len__(self) -> int:
        return len(self._samples)

    def image(self, sample: int) -> Bytes:
        """The image as stored, in memory of its own.

        Three channels: the JPEG or PNG file, uint8 [bytes]. Any other number: the pixels themselves, uint8 [H, W, C].
        """
        shard, image, _ = self._samples[sample]
        content = self._tars[shard].read(image)
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
        """The encoded label (mode-L PNG file), uint8 [bytes], in memory of its own."""
        shard, _, label = self._samples[sample]
        assert label is not None, "an unlabelled split has no labels to ask for"
        return self._tars[shard].read(label)

    def damaged(self, sample: int, image: Bytes, label: Bytes | None = None) -> str | None:
        """Which of the sample's files, "image" or "label", is not the one that was ingested, by its CRC-32.

        image, label: as `image` and `label` gave them. A flipped bit in a JPEG mostly decodes to a picture, of another
        scene. 0.1 ms for 600 kB. None where both are as they were, and in datasets that recorded no sums.
        """
        shard, member, _ = self._samples[sample]
        image_crc, label_crc = self._crcs[sample]
        if self.manifest.channels != 3 and image_crc is not None:
            image = self._tars[shard].read(member)  # the sum is the file's, its header counted
        if image_crc is not None and deflate.crc32(image) != image_crc:
            return "image"
        if label is not None and label_crc is not None and deflate.crc32(label) != label_crc:
            return "label"
        return None

    def will_need(self, samples: Iterable[int]) -> None:
        """Has the system read these samples into its cache, without waiting: call it some batches ahead."""
        for sample in samples:
            shard, image, label = self._samples[sample]
            files = [image, label] if label else [image]
            start = min(file.offset for file in files) - _HEADER
            self._tars[shard].will_need(start, max(file.offset + file.size for file in files))

    def shard_of(self, sample: int) -> Path:
        """The tar that holds the sample."""
        return self._tars[self._samples[sample][0]].path


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
    except (ValueError, IsADirectoryError) as error:
        raise UserError(f"{path} is damaged ({error}): ingest the dataset again") from error


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
