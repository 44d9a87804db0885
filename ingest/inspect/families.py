"""Files in families: one folder (or folders that differ in a city's name), one ending (`_mask`, `_leftImg8bit`)."""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from ingest.forms.annotated import IMAGES
from ingest.inspect.samples import Look, look
from ingest.pixels.masks import ARRAYS
from ingest.sources.trees import Tree
from ingest.spec.peek import spread

SPLITS = {
    "train": ("train", "training", "trainset", "train_set"),
    "val": ("val", "valid", "validation", "dev", "eval", "valset"),
    "test": ("test", "testing", "testset", "test_set"),
}
_MASK_WORDS = re.compile(r"mask|label|annot|seg|gt|truth|target|class", re.I)
_TAIL = re.compile(r"[_\-. ][A-Za-z][A-Za-z0-9]*$")
_HEAD = re.compile(r"^[A-Za-z]+[_\-. ]?(?=\d)")
_FIXED = re.compile(r"[A-Za-z][A-Za-z_\- ]*")  # a name without a number: that of a kind of files
_LOOKED_AT = 3  # files of a family
_FAMILIES = 200  # that are looked at
_SAME = 0.9  # of the names of two folders, where these are images and their masks by the same names


@dataclass
class Family:
    """Files that belong together."""

    folder: str  # with * where folders were merged
    head: str  # what all stems begin with, before a number
    tail: str  # what all stems end with
    names: list[str] = field(default_factory=list)
    looks: list[Look] = field(default_factory=list)

    @property
    def is_masks(self) -> bool:
        """By what the files show; words count where that leaves it open."""
        votes = sum(1 if one.kind != "picture" else -1 for one in self.looks)
        return votes > 0 or (votes == 0 and bool(_MASK_WORDS.search(f"{self.folder}/{self.head}{self.tail}")))

    @property
    def split(self) -> str | None:
        """The split that a part of the path names."""
        for part in reversed(self.folder.lower().split("/")):
            for split, words in SPLITS.items():
                if part in words or any(re.match(rf"{word}[^a-z]", part) for word in words):
                    return split
                if any(part == word + rest for word in words for rest in ("annot", "labels", "masks", "images", "_gt")):
                    return split
        return None

    def glob(self, with_head: bool) -> str:
        """A glob that matches the family."""
        exts = sorted({os.path.splitext(name)[1].lower()[1:] for name in self.names})
        ext = exts[0] if len(exts) == 1 else "{" + ",".join(exts) + "}"
        stem = f"{self.head if with_head else ''}*{self.tail}"
        return f"{self.folder}/{stem}.{ext}" if self.folder else f"{stem}.{ext}"


def families(tree: Tree) -> list[Family]:
    """All image and array files in families, each looked at, largest first; folders that play the same part merged."""
    folders: defaultdict[tuple[str, bool], list[str]] = defaultdict(list)
    for name in tree.names:
        ext = os.path.splitext(name)[1].lower()
        if ext in IMAGES or ext in ARRAYS:
            folders[os.path.dirname(name), ext in (".jpg", ".jpeg")].append(name)
    a_folder_each = _of_a_folder_each(folders)
    # an ending that many files of one folder, or below one folder at the top, share counts in all: a city may have one
    tops: defaultdict[str, list[str]] = defaultdict(list)
    for (folder, _), names in folders.items():
        tops[folder.split("/")[0]] += names
    groups = [*folders.values(), *tops.values()]
    tails = sorted({tail for names in groups for tail in _tails([_stem(one) for one in names])}, key=len)
    found = [one for (folder, _), names in folders.items() for one in _of_folder(folder, names, tails[::-1])]
    found += a_folder_each
    found.sort(key=lambda family: -len(family.names))
    for family in found[:_FAMILIES]:
        for name in spread(family.names, _LOOKED_AT):
            seen = look(tree.source(name))
            if seen is not None:
                family.looks.append(seen)
    return _merged(_rejoined([family for family in found if family.looks]))


def _rejoined(found: Sequence[Family]) -> list[Family]:
    """Without the endings that tell parts of one scene apart, not kinds of files: pictures and masks have the same."""
    folders: defaultdict[tuple[str, bool], list[Family]] = defaultdict(list)
    for family in found:
        folders[family.folder, family.is_masks].append(family)
    stems = {place: {_stem(name) for one in mine for name in one.names} for place, mine in folders.items()}
    kept = []
    for place, mine in folders.items():
        alike = any(
            other[1] != place[1]
            and len(stems[other] & stems[place]) >= _SAME * max(len(stems[other]), len(stems[place]))
            for other in folders
        )
        if alike and len(mine) > 1:
            names = sorted(name for one in mine for name in one.names)
            kept.append(Family(place[0], _head(names, ""), "", names, [seen for one in mine for seen in one.looks]))
        else:
            kept += mine
    return kept


def _stem(name: str) -> str:
    return os.path.splitext(os.path.basename(name))[0]


def _of_a_folder_each(folders: dict[tuple[str, bool], list[str]]) -> list[Family]:
    """Families of samples that have a folder each (a/image.png, a/mask.png, b/image.png...), taken out of `folders`."""
    found: dict[tuple[str, str], Family] = {}
    for parent, stems in _fixed_stems(folders).items():
        for (folder, _), names in folders.items():
            if folder and os.path.dirname(folder) == parent:
                wild = f"{parent}/*" if parent else "*"
                for name in [one for one in names if _stem(one) in stems]:
                    found.setdefault((wild, _stem(name)), Family(wild, "", _stem(name))).names.append(name)
                    names.remove(name)
    for place in [place for place, names in folders.items() if not names]:
        del folders[place]
    return list(found.values())


def _fixed_stems(folders: Mapping[tuple[str, bool], Sequence[str]]) -> dict[str, set[str]]:
    """Folder -> the file names that nearly all folders in it hold alike, where these tell kinds of files apart."""
    inner: defaultdict[str, set[str]] = defaultdict(set)
    holding: defaultdict[tuple[str, str], set[str]] = defaultdict(set)  # (parent, stem) -> folders
    for (folder, _), names in folders.items():
        if folder:
            inner[os.path.dirname(folder)].add(folder)
        for stem in {_stem(name) for name in names if folder}:
            if _FIXED.fullmatch(stem):
                holding[os.path.dirname(folder), stem].add(folder)
    shared: defaultdict[str, set[str]] = defaultdict(set)
    for (parent, stem), mine in holding.items():
        if len(mine) >= _SAME * len(inner[parent]):
            shared[parent].add(stem)
    # more folders than names: else the names are of samples, and the folders their kinds (images/, masks/, overlays/)
    sure = {parent: stems for parent, stems in shared.items() if 2 <= len(stems) < len(inner[parent])}
    known = set().union(*sure.values())
    return {parent: stems for parent, stems in shared.items() if parent in sure or (stems <= known and len(stems) > 1)}


def _of_folder(folder: str, names: Sequence[str], tails: Sequence[str]) -> list[Family]:
    """A folder's files by their endings; `tails`: the longest first."""
    parts: defaultdict[str, list[str]] = defaultdict(list)
    for name in names:
        parts[next((tail for tail in tails if _stem(name).endswith(tail)), "")].append(name)
    return [Family(folder, _head(mine, tail), tail, mine) for tail, mine in parts.items()]


def _tails(stems: Sequence[str]) -> list[str]:
    """Endings that a good part of the stems share: `_gtFine_labelIds`."""
    counts: Counter[str] = Counter()
    for stem in stems:
        start = len(stem)
        while hit := _TAIL.search(stem[:start]):
            start = hit.start()
            counts[stem[start:]] += 1
    common = {tail: count for tail, count in counts.items() if count >= max(2, 0.2 * len(stems))}
    # of endings that mean the same files the longest
    return [
        tail
        for tail, count in common.items()
        if not any(other != tail and other.endswith(tail) and common[other] >= 0.99 * count for other in common)
    ]


def _head(names: Sequence[str], tail: str) -> str:
    hits = [_HEAD.match(_stem(name)) for name in names]
    heads = {hit[0] if hit else "" for hit in hits}
    return heads.pop() if len(heads) == 1 else ""


def _merged(found: Iterable[Family]) -> list[Family]:
    """Families of the same kind, ending and depth, whose folders differ in words that mean nothing here, as one."""
    groups: defaultdict[tuple[bool, str, int], list[Family]] = defaultdict(list)
    for family in found:
        groups[family.is_masks, family.tail, family.folder.count("/")].append(family)
    merged: dict[tuple[bool, str, str], Family] = {}
    for (masks, tail, _), group in groups.items():
        paths = [tuple(family.folder.split("/")) for family in group]
        wild = {at for at in range(len(paths[0])) if _is_wild({path[at] for path in paths})}
        for family, path in zip(group, paths, strict=True):
            folder = "/".join("*" if at in wild else part for at, part in enumerate(path))
            one = merged.setdefault((masks, tail, folder), Family(folder, family.head, tail))
            one.head = one.head if one.head == family.head else ""
            one.names += family.names
            one.looks += family.looks
    return sorted(merged.values(), key=lambda family: -len(family.names))


def _is_wild(parts: set[str]) -> bool:
    """Whether folders side by side are a city, a day, a drive each: several, and none of them a split or a kind."""
    known = [part for part in parts if Family(part, "", "").split or _MASK_WORDS.search(part) or _is_image_word(part)]
    return len(parts) > 1 and not known


def _is_image_word(part: str) -> bool:
    return bool(re.search(r"ima?ge?s?$|^im|rgb|photo|picture|jpe?g|png|tif|left|input|original|^[ab]$", part, re.I))
