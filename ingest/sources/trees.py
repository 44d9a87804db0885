"""Raw files by name: the tree of a raw dataset, archives opened in place, and each file's bytes on demand."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ingest.errors import UserError
from ingest.sources import archives
from ingest.sources.archives import Source


@dataclass(frozen=True)
class Found:
    """A file that a pattern matched, and what its groups held."""

    name: str
    groups: tuple[str, ...]


class Tree:
    """All files below a folder by their relative names; zips and tars count as folders (`x.zip/member`).

    `root` may also be one archive. Raises UserError when it is missing or empty, or when an archive is broken.
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = Path(root)
        if not self.root.exists():
            raise UserError(f"{self.root} does not exist: give the folder that holds the raw dataset")
        self._files: dict[str, str | Source] = {}
        if self.root.is_dir():
            for name, path in _walk(self.root):
                if archives.is_archive(name):
                    self._mount(name, path)
                else:
                    self._files[name] = path
        elif archives.is_archive(self.root.name):
            self._mount(self.root.name, str(self.root))
        else:
            raise UserError(f"{self.root} is a file, not a folder: give the folder that holds the raw dataset")
        if not self._files:
            raise UserError(f"{self.root} holds no files: give the folder that holds the raw dataset")
        # loose files first: who unpacked an archive beside it means the files
        self.names = sorted(self._files, key=lambda name: (isinstance(self._files[name], Source), name))

    def __contains__(self, name: str) -> bool:
        return name in self._files

    def _mount(self, name: str, path: str) -> None:
        for member in archives.members(path, name):
            self._files[member.name] = member

    def source(self, name: str) -> Source:
        """The file of that name (KeyError when there is none)."""
        entry = self._files[name]
        if isinstance(entry, Source):
            return entry
        try:
            return Source(name, entry, os.stat(entry).st_size)
        except OSError as error:  # a dangling link
            raise UserError(f"{name} cannot be read ({error.strerror}): check {entry}") from error

    def text(self, name: str) -> str:
        """A list file's text."""
        return self.source(name).read().decode("utf-8", "replace")

    def find(self, regex: str) -> Iterator[Found]:
        """Files whose name ends in what `regex` matches, from a folder's start on."""
        pattern = re.compile(r"(?:.*/)?" + regex, re.S)
        for name in self.names:
            if hit := pattern.fullmatch(name):
                yield Found(name, tuple(hit.groups()))

    def index(self, regex: str) -> dict[tuple[str, ...], str]:
        """`find` as {groups: name}. A file that is there twice (unpacked and in an archive) counts once."""
        found: dict[tuple[str, ...], str] = {}
        for hit in self.find(regex):
            found.setdefault(hit.groups, hit.name)
        return found

    def match(self, pattern: str) -> dict[str, str]:
        """Names that match a glob -> what its wildcards stand for, extension left out: the text that pairs files.

        `*` and `?` stay within a folder, `**/` spans any number of them, `{a,b}` and `[ab]` choose.
        """
        regex = _glob_regex(pattern)
        found = {}
        for name in self.names:
            if hit := regex.fullmatch(name):
                texts = [text or "" for text in hit.groups()]
                stem = os.path.splitext(name)[0]
                if texts and name.endswith(texts[-1]):  # the last wildcard swallowed the extension
                    texts[-1] = texts[-1][: len(texts[-1]) - (len(name) - len(stem))]
                found[name] = "/".join(texts) if texts else os.path.basename(stem)
        return found

    def describe(self, limit: int = 6) -> str:
        """What lies at the top, for error messages: `JPEGImages/, readme.txt, ...`."""
        tops = sorted({name.split("/")[0] + ("/" if "/" in name else "") for name in self.names})
        return ", ".join(tops[:limit]) + (", ..." if len(tops) > limit else "")


def _walk(root: Path) -> Iterator[tuple[str, str]]:
    """(relative name, path) of every file; links to folders are followed, each real folder once."""
    seen: set[str] = set()
    for folder, folders, files in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        relative = os.path.relpath(folder, root).replace(os.sep, "/")
        prefix = "" if relative == "." else relative + "/"
        for name in files:
            if not name.startswith("."):
                yield prefix + name, os.path.join(folder, name)


def _glob_regex(pattern: str) -> re.Pattern[str]:
    """A glob as a regular expression with one group a wildcard."""
    out = ""
    rest = pattern.removeprefix("./")
    while rest:
        if hit := re.match(r"\*\*/", rest):
            out += r"((?:[^/]+/)*)"
        elif hit := re.match(r"\*\*", rest):
            out += r"(.*)"
        elif hit := re.match(r"\*", rest):
            out += r"([^/]*)"
        elif hit := re.match(r"\?", rest):
            out += r"([^/])"
        elif hit := re.match(r"\[[^\]]+\]", rest):
            out += "(" + hit[0].replace("[!", "[^") + ")"
        elif hit := re.match(r"\{([^}]*)\}", rest):  # choices of extension or folder: not part of the pairing text
            out += "(?:" + "|".join(re.escape(choice) for choice in hit[1].split(",")) + ")"
        else:
            hit = re.match(r".", rest, re.S)
            assert hit
            out += re.escape(hit[0])
        rest = rest[hit.end() :]
    return re.compile(out, re.S)
