"""Raw files by name: the tree of a raw dataset, archives opened in place, and each file's bytes on demand."""

from __future__ import annotations

import os
import re
import stat
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from ingest.errors import UserError
from ingest.sources import archives
from ingest.sources.archives import Source, printable


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
        if self.root.is_dir():
            self._files = _by_composed_name(_files(self.root))
        elif archives.is_archive(self.root.name):
            self._files = _by_composed_name(_members(str(self.root), self.root.name))
        else:
            raise UserError(f"{self.root} is a file, not a folder: give the folder that holds the raw dataset")
        if not self._files:
            raise UserError(f"{self.root} holds no files: give the folder that holds the raw dataset")
        # loose files first: who unpacked an archive beside it means the files
        self.names = sorted(self._files, key=lambda name: (isinstance(self._files[name], Source), name))

    def __contains__(self, name: str) -> bool:
        return name in self._files

    def source(self, name: str) -> Source:
        """The file of that name (KeyError when there is none)."""
        entry = self._files[name]
        if isinstance(entry, Source):
            return replace(entry, name=name)
        try:
            found = os.stat(entry)
        except OSError as error:  # a dangling link
            raise UserError(f"{name} cannot be read ({error.strerror}): check {entry}") from error
        if not stat.S_ISREG(found.st_mode):  # a pipe would be waited for, /dev/zero read, for ever
            raise UserError(f"{name} is a pipe or a device, no file: remove {entry}")
        return Source(name, entry, found.st_size)

    def text(self, name: str) -> str:
        """A list file's text, `composed`, without the mark that Windows' editors begin files with."""
        return composed(self.source(name).read().decode("utf-8-sig", "replace"))

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

        `*` and `?` stay within a folder, `**/` spans any number of them, `{a,b}` and `[ab]` choose. Letter case counts,
        but not in the extension: `*.jpg` matches `a.JPG`. Raises UserError on a glob that cannot be read.
        """
        regex = glob_regex(pattern)
        found = {}
        for name in self.names:
            if hit := regex.fullmatch(name):
                stem = os.path.splitext(name)[0]
                spans = [hit.span(group) for group in range(1, regex.groups + 1)]
                # what a wildcard took of the extension is left out; so is one that stands for the extension alone
                texts = [name[start : min(end, len(stem))] for start, end in spans if start <= len(stem)]
                found[name] = "/".join(texts) if texts else os.path.basename(stem)
        return found

    def match_any_case(self, pattern: str) -> list[str]:
        """Names that match a glob when letter case does not count: for the message when `match` found none."""
        regex = re.compile(glob_regex(pattern).pattern, re.S | re.I)
        return [name for name in self.names if regex.fullmatch(name)]

    def describe(self, limit: int = 6) -> str:
        """What lies at the top, for error messages: `JPEGImages/, readme.txt, ...`."""
        tops = sorted({name.split("/")[0] + ("/" if "/" in name else "") for name in self.names})
        return ", ".join(tops[:limit]) + (", ..." if len(tops) > limit else "")


def composed(text: str) -> str:
    """In Unicode's composed form (NFC), which most systems write: an accented letter is one sign.

    macOS writes names with the accent as a sign of its own (NFD): the same word, other bytes.
    """
    return unicodedata.normalize("NFC", text)


def _by_composed_name(files: Iterable[tuple[str, str | Source]]) -> dict[str, str | Source]:
    """Name -> file, so that an image and its mask pair though they come from different systems.

    Names that differ in nothing but the form stay as they are: both files are kept.
    """
    found = dict(files)
    forms = Counter(composed(name) for name in found)
    return {composed(name) if forms[composed(name)] == 1 else name: file for name, file in found.items()}


def _files(root: Path) -> Iterator[tuple[str, str | Source]]:
    for name, path in _walk(root):
        if archives.is_archive(name):
            yield from _members(path, name)
        else:
            yield name, path


def _members(path: str, name: str) -> Iterator[tuple[str, Source]]:
    return ((member.name, member) for member in archives.members(path, name))


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
                yield printable(prefix + name), os.path.join(folder, name)


def glob_regex(pattern: str) -> re.Pattern[str]:
    """A glob as a regular expression with one group a wildcard. UserError on a glob that cannot be read."""
    clean = composed(pattern).removeprefix("./")
    head, dot, ext = clean.rpartition(".")
    if not dot or not re.fullmatch(r"[A-Za-z0-9]+|\{[A-Za-z0-9,]+\}", ext):
        head, ext = clean, ""
    try:
        return re.compile(_translate(head) + (rf"\.(?i:{_translate(ext)})" if ext else ""), re.S)
    except (re.error, RecursionError, OverflowError) as error:
        raise UserError(
            f"the glob {pattern!r} cannot be read ({error}): *, ?, **/, [ab], [a-z] and {{a,b}} are known"
        ) from error


_PIECES = re.compile(
    r"(?P<folders>\*\*/)|(?P<all>\*\*)|(?P<text>\*)|(?P<one>\?)|\[(?P<set>[^\]]+)\]|\{(?P<choice>[^}]*)\}"
)
_WILD = {"folders": r"((?:[^/]+/)*)", "all": r"(.*)", "text": r"([^/]*)", "one": r"([^/])"}


def _translate(glob: str) -> str:
    """A glob's text as that of a regular expression."""
    out, at = "", 0
    for hit in _PIECES.finditer(glob):
        out += re.escape(glob[at : hit.start()])
        at = hit.end()
        if hit["set"]:
            body = hit["set"].replace("\\", r"\\").replace("[", r"\[")
            out += f"([^/{body[1:]}])" if body[0] in "!^" else f"([{body}])"
        elif hit["choice"] is not None:  # of extension or folder: not part of the text that pairs files
            out += "(?:" + "|".join(re.escape(choice) for choice in hit["choice"].split(",")) + ")"
        else:
            out += _WILD[hit.lastgroup or ""]
    return out + re.escape(glob[at:])
