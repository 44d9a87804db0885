"""Raw files by name: the tree of a raw dataset, listed once, and each file's bytes on demand."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ingest.errors import UserError


@dataclass(frozen=True)
class Source:
    """One raw file. Small and picklable: workers get it and read the bytes themselves."""

    name: str  # relative to the raw dataset's root, with slashes
    path: str  # the file on disk
    size: int  # bytes

    def read(self) -> bytes:
        """The file's bytes. Raises UserError when it is gone or unreadable."""
        try:
            with open(self.path, "rb") as file:
                return file.read()
        except OSError as error:
            raise UserError(f"{self.name} cannot be read ({error.strerror}): check {self.path}") from error


class Tree:
    """All files below a folder, by their relative names.

    Raises UserError when the folder is missing or empty.
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = Path(root)
        if not self.root.is_dir():
            what = "is a file, not a folder" if self.root.exists() else "does not exist"
            raise UserError(f"{self.root} {what}: give the folder that holds the raw dataset")
        self._files = dict(_walk(self.root))
        if not self._files:
            raise UserError(f"{self.root} holds no files: give the folder that holds the raw dataset")
        self.names = sorted(self._files)

    def __contains__(self, name: str) -> bool:
        return name in self._files

    def source(self, name: str) -> Source:
        """The file of that name (KeyError when there is none)."""
        path = self._files[name]
        try:
            return Source(name, path, os.stat(path).st_size)
        except OSError as error:  # a dangling link
            raise UserError(f"{name} cannot be read ({error.strerror}): check {path}") from error

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

    def roots(self, *marks: str) -> list[str]:
        """Prefixes ("" or "a/b/") below which every one of the relative folders or files `marks` exists."""
        prefixes: list[set[str]] = []
        for mark in marks:
            pattern = re.compile(rf"((?:.*/)?){re.escape(mark)}(?:/.*)?")
            prefixes.append({hit[1] for name in self.names if (hit := pattern.fullmatch(name))})
        return sorted(set.intersection(*prefixes), key=lambda prefix: (prefix.count("/"), prefix))

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
