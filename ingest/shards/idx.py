"""DALI's v1.2 index of a tar: a line a sample, `<extension> <offset> <size> <name>` for each of its files.

Written for DALI's own reader and for wds2idx's users; read here only in folders of schema 1, which have no columns.
"""

from __future__ import annotations

import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ingest.errors import UserError


@dataclass(frozen=True)
class Member:
    """Where one file's bytes lie in a tar."""

    name: str  # "<key>.<extension>"
    at: int
    bytes: int

    @property
    def key(self) -> str:
        return self.name.partition(".")[0]

    @property
    def ext(self) -> str:
        return self.name.partition(".")[2]


def text(samples: Sequence[Sequence[Member]]) -> str:
    """The index of these samples' files."""
    lines = [" ".join(f"{one.ext} {one.at} {one.bytes} {one.name}" for one in files) for files in samples]
    return "\n".join([f"v1.2 {len(lines)}", *lines, ""])


def parse(path: Path) -> list[list[Member]]:
    """Each sample's files. UserError where the index is missing or damaged."""
    try:
        header, *lines = path.read_text().splitlines()
        if header.split() != ["v1.2", str(len(lines))]:
            raise ValueError(f"header {header!r} over {len(lines)} lines")
        samples = []
        for line in lines:
            words = line.split()
            fields = zip(words[1::4], words[2::4], words[3::4], strict=True)
            samples.append([Member(name, int(at), int(size)) for at, size, name in fields])
        return samples
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing: restore it or ingest the dataset again") from error
    except (ValueError, IsADirectoryError) as error:
        raise UserError(f"{path} is damaged ({error}): ingest the dataset again") from error


def of_tar(path: Path) -> list[list[Member]]:
    """Each sample's files, by the headers of the tar itself. UserError where it is missing or no whole tar."""
    samples: list[list[Member]] = []
    try:
        with tarfile.open(path, "r:") as tar:
            for info in tar:
                member = Member(info.name, info.offset_data, info.size)
                if not samples or samples[-1][0].key != member.key:
                    samples.append([])
                samples[-1].append(member)
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing: restore it or ingest the dataset again") from error
    except tarfile.TarError as error:
        raise UserError(f"{path} is not a whole tar ({error}): ingest the dataset again") from error
    return samples
