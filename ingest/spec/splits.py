"""Which files make a split of a folder: globs, list files, or shares of what globs match."""

from __future__ import annotations

import hashlib
import os
import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

from ingest.errors import UserError
from ingest.forms import registry
from ingest.shards.manifest import Skipped
from ingest.sources.raw import Pair, pair_up
from ingest.sources.trees import Tree
from ingest.spec.schema import Shares, Spec, SplitSpec

_NOT_MASKS = (".json", ".txt", ".xml", ".csv", ".jsonl")


@dataclass
class Files:
    """A split's images and masks by the text that pairs them; pairs that a list names outright."""

    images: dict[str, str] = field(default_factory=dict)
    labels: dict[str, str] | None = None  # None: images alone
    pairs: list[tuple[str, str]] = field(default_factory=list)
    where: str = ""  # the masks were looked for, for messages


def by_globs(tree: Tree, spec: Spec, name: str, split: SplitSpec) -> Files:
    """What the globs of a split match, less what its list file leaves out."""
    labels = None
    if split.labels is not None and spec.shapes is None:
        labels = _by_text(tree, split.labels)
        _refuse_annotations(tree, labels, spec.path)
    images: dict[str, str] = {}
    if split.images is not None:
        images = _images(tree, spec, name, split.images, set((labels or {}).values()))
    if split.list is not None:
        return _listed(tree, spec, split, Files(images, labels, where=f"{split.labels!r}"))
    return Files(images, labels, where=f"{split.labels!r}")


def by_share(tree: Tree, spec: Spec, shares: Shares) -> dict[str, Files]:
    """Split -> its part of what the globs match, by a hash of (seed, group): the same on every machine."""
    first = next(iter(shares.parts))
    whole = by_globs(tree, spec, first, spec.splits[first])
    groups: defaultdict[str, list[str]] = defaultdict(list)
    for text, name in whole.images.items():
        groups[_group(name, shares, spec.path)].append(text)
    order = sorted(groups, key=lambda group: hashlib.sha256(f"{shares.seed}/{group}".encode(errors="replace")).digest())
    if len(order) < len(shares.parts):
        raise UserError(
            f"{spec.path}: splits: {len(order)} groups of images cannot be dealt to {len(shares.parts)} splits: "
            "mend `group`, or leave it out"
        )
    parts = {name: Files(labels=whole.labels, where=whole.where) for name in shares.parts}
    names = list(shares.parts)
    ends = [sum(list(shares.parts.values())[: number + 1]) * len(whole.images) for number in range(len(names))]
    dealt, at = 0, 0
    for number, group in enumerate(order):
        left = len(order) - number  # every split gets a group at least
        while (
            at < len(names) - 1
            and parts[names[at]].images
            and (dealt + len(groups[group]) / 2 > ends[at] or left < len(names) - at)
        ):
            at += 1
        parts[names[at]].images |= {text: whole.images[text] for text in groups[group]}
        dealt += len(groups[group])
    return parts


def _group(name: str, shares: Shares, path: str) -> str:
    if shares.group is None:
        return name
    hit = shares.group.search(name)
    if hit is None:
        raise UserError(f"{path}: splits: group {shares.group.pattern!r} finds nothing in {name}: mend it")
    return hit.group(1) if shares.group.groups and hit.group(1) is not None else hit.group(0)


def paired(tree: Tree, files: Files, skip_bad: bool) -> tuple[list[Pair], list[Skipped]]:
    """The split's images with their masks."""
    pairs, skipped = pair_up(tree, files.images, files.labels, files.where, skip_bad)
    for image, label in files.pairs:
        try:
            pairs.append(Pair(tree.source(image), tree.source(label)))
        except UserError as error:
            if not skip_bad:
                raise
            skipped.append(Skipped(image, str(error)))
    return pairs, skipped


def _images(tree: Tree, spec: Spec, split: str, glob: str, masks: set[str]) -> dict[str, str]:
    """A glob's images by text. Masks that it matches as well, as in a folder of x.png and x_mask.png, are none."""
    matched = [name for name in tree.match(glob) if name not in masks]
    if matched:
        if spec.shapes is not None:
            return {name: name for name in matched}
        return _by_text(tree, glob, masks)
    if tree.match(glob):
        raise UserError(f"split {split!r}: {glob!r} matches the masks alone: give images and masks globs of their own")
    near = tree.match_any_case(glob)
    hint = f"; {near[0]} differs in letter case alone" if near else ""
    raise UserError(
        f"split {split!r}: no file below {tree.root} matches {glob!r} (there are: {tree.describe()}{hint}): "
        f"give the right folder, or mend the glob in {spec.path}"
    )


def _by_text(tree: Tree, glob: str, leave_out: set[str] | frozenset[str] = frozenset()) -> dict[str, str]:
    """{what the wildcards stand for: name}; two files for one text would make the pairing a guess."""
    found: dict[str, str] = {}
    for name, text in tree.match(glob).items():
        if name in leave_out:
            continue
        if text in found:
            raise UserError(f"{found[text]} and {name} both stand for {text!r}: make {glob!r} match one of them")
        found[text] = name
    return found


def _refuse_annotations(tree: Tree, labels: Mapping[str, str], path: str) -> None:
    """UserError where the masks are annotation files: what they are, and how they are read."""
    odd = next((name for name in labels.values() if name.lower().endswith(_NOT_MASKS)), None)
    if odd is None:
        return
    form = registry.recognize(odd, tree.source(odd).read()[: registry.HEAD])
    if form is not None:
        raise UserError(
            f"{odd} holds shapes ({form.title}), not a mask: name the form in {path}, with "
            f"`labels: {{form: {form.name}, files: GLOB}}`; `python -m ingest inspect SRC` writes such a spec"
        )
    raise UserError(
        f"{odd} is no mask: masks are images, .npy or .mat files; annotation files are read with "
        f"`labels: {{form: ..., files: GLOB}}` in {path}, where form is one of {', '.join(registry.all_forms())}"
    )


def _listed(tree: Tree, spec: Spec, split: SplitSpec, files: Files) -> Files:
    """The files that a list names: one stem or image a line, or an image and its mask."""
    assert split.list is not None
    if split.list not in tree:
        raise UserError(f"{spec.path}: no list {split.list!r} below {tree.root} (there are: {tree.describe()})")
    by_name = _names(files.images)
    chosen = Files({}, files.labels, where=files.where)
    for number, line in enumerate(tree.text(split.list).splitlines(), 1):
        words = line.strip()
        if not words:
            continue
        where = f"{split.list}, line {number}"
        parts = _parts(words)
        text = by_name.get(words) or (_elsewhere(words, by_name, files.images) if len(parts) == 1 else None)
        if text is not None:
            chosen.images[text] = files.images[text]
            continue
        if len(parts) == 2 and spec.shapes is None:
            chosen.pairs.append((_tail(tree, parts[0], where), _tail(tree, parts[1], where)))
            chosen.labels = chosen.labels or {}
        elif len(parts) == 1 and split.images is None:
            chosen.images[words] = _tail(tree, words, where)
        else:
            raise UserError(
                f"{where}: {words[:200]!r} is none of the {len(files.images)} images that {split.images!r} matches: "
                "a line is an image's stem or path, or the paths of an image and its mask"
            )
    if not chosen.images and not chosen.pairs:
        raise UserError(f"{split.list} is empty: it must name the images of its split, one a line")
    return chosen


def _names(images: Mapping[str, str]) -> dict[str, str]:
    """What a line may call an image: its text, path, file name or stem, where that is of one image -> its text."""
    found: dict[str, str | None] = {}
    for text, name in images.items():
        base = os.path.basename(name)
        for word in {text, name, os.path.splitext(name)[0], base, os.path.splitext(base)[0]}:
            found[word] = text if word not in found else None
    exact = {text: text for text in images}
    return {word: text for word, text in found.items() if text is not None} | exact


def _elsewhere(line: str, by_name: Mapping[str, str], images: Mapping[str, str]) -> str | None:
    """The text of the image that a path of another machine ends in (/home/ann/data/img/a.jpg of img/a.jpg), or None."""
    parts = line.replace("\\", "/").lstrip("/").split("/")
    for start in range(len(parts)):
        text = by_name.get("/".join(parts[start:]))
        if text is not None and (start == 0 or images[text] == "/".join(parts[start:])):
            return text
    return None


def _parts(line: str) -> list[str]:
    """A line's paths: parted by a tab, a comma, or else by blanks."""
    for mark in ("\t", ","):
        if mark in line:
            return [part.strip() for part in line.split(mark) if part.strip()]
    return line.split()


def _tail(tree: Tree, path: str, where: str) -> str:
    """The file that a list's path means: paths of another machine count by their last parts."""
    parts = [part for part in re.split(r"[/\\]", path) if part not in ("", ".", "..")]
    for start in range(len(parts)):
        tail = "/".join(parts[start:])
        if tail in tree:
            return tail
        ending = [name for name in tree.names if name.endswith("/" + tail)]
        if len(ending) > 1:
            raise UserError(f"{where}: {path!r} may be {ending[0]} or {ending[1]}: write more of the path")
        if ending:
            return ending[0]
    raise UserError(f"{where}: {path!r} is not below {tree.root}: add the file, or mend the list")
