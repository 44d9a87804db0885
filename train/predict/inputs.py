"""What is to be labeled: image files, folders, patterns, videos and shard folders."""

from __future__ import annotations

import glob
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ingest.errors import UserError
from ingest.shards import manifest
from ingest.shards.reader import ShardSet
from ingest.shards.wording import count
from train.predict.raw import SUFFIXES

VIDEOS = {".mp4", ".mkv", ".mov", ".avi", ".webm", ".m4v"}


@dataclass(frozen=True)
class Item:
    """One image or video."""

    name: Path
    """Of what is written for it, relative to the output folder and without a suffix."""
    path: Path
    """The file; of a sample its shard folder."""
    shards: ShardSet | None = None
    sample: int = 0
    """Its number in `shards`."""

    @property
    def is_video(self) -> bool:
        return self.shards is None and self.path.suffix.lower() in VIDEOS

    def __str__(self) -> str:
        return str(self.path) if self.shards is None else f"{self.path}: {self.shards.keys[self.sample]}"


def find(sources: Sequence[str], split: str | None) -> list[Item]:
    """Everything that the sources name, in order. UserError where one names nothing, or two would be written as one.

    split: of shard folders; None: all splits.
    """
    items: list[Item] = []
    for source in sources:
        path = Path(source)
        if (path / manifest.FILE).is_file():
            items += _samples(path, split)
        elif path.is_dir():
            files = sorted(file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES | VIDEOS)
            if not files:
                raise UserError(f"{source} holds no images ({', '.join(sorted(SUFFIXES))}) and no videos")
            items += [Item(file.relative_to(path).with_suffix(""), file) for file in files]
        elif path.is_file():
            items.append(Item(Path(path.stem), path))
        else:
            files = sorted(Path(file) for file in glob.glob(source, recursive=True) if Path(file).is_file())
            if not files:
                what = "matches no file" if glob.has_magic(source) else "does not exist"
                raise UserError(f"{source} {what}: give image files, folders, patterns, videos or shard folders")
            items += [Item(Path(file.stem), file) for file in files]
    return _distinct(items)


def _samples(folder: Path, split: str | None) -> list[Item]:
    facts = manifest.load(folder)
    chosen = [split] if split else list(facts.splits)
    found = []
    for name in chosen:
        shards = ShardSet(folder, name)
        prefix = Path(name) if len(chosen) > 1 else Path()
        found += [Item(prefix / shards.keys[sample], folder, shards, sample) for sample in range(len(shards))]
    return found


def _distinct(items: list[Item]) -> list[Item]:
    seen: dict[Path, Item] = {}
    twice = [(seen[item.name], item) for item in items if seen.setdefault(item.name, item) is not item]
    if twice:
        first, second = twice[0]
        more = f" (and {count(len(twice) - 1, 'more pair')})" if len(twice) > 1 else ""
        raise UserError(f"{first} and {second} would both be written to {first.name}{more}: predict them separately")
    return items
