"""From what was found to a spec: its text, what to say of it, and example pairs."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence

from ingest.datasets import guess
from ingest.errors import UserError
from ingest.inspect import annotations as annotation_files
from ingest.inspect import names
from ingest.inspect.annotations import Annotations
from ingest.inspect.families import SPLITS, families
from ingest.inspect.findings import Draft, Split
from ingest.inspect.meaning import Meaning, meaning
from ingest.inspect.pairs import Paired, pair
from ingest.pixels.masks import ARRAYS, read_mask
from ingest.shards.wording import count
from ingest.sources.trees import Tree
from ingest.spec import yaml_file
from ingest.spec.peek import spread
from ingest.spec.schema import check

_BACKGROUND = ("background", "_background_", "__background__")


def draft(tree: Tree) -> Draft:
    """Looks at a folder. UserError where there are no images, or no labels that fit them."""
    found = families(tree)
    if not found:
        raise UserError(f"{tree.root} holds no image that can be read (there are: {tree.describe()})")
    pairs = pair(tree, found)
    shapes = annotation_files.find(tree)
    masked = [one for one in pairs if one.masks is not None]
    if not masked and shapes is None:
        seen = count(sum(len(one.images.names) for one in pairs), "image")
        raise UserError(
            f"{tree.root}: found {seen}, but no masks and no annotation "
            f"files that fit them (there are: {tree.describe()}{_no_mask(tree)}): write a spec; "
            "ingest/specs/camvid.yaml is an example"
        )
    name = re.sub(r"[^\w-]+", "_", tree.root.resolve().name.split(".")[0]).strip("_")[:60] or "dataset"
    if masked:
        made = _of_masks(tree, name, pairs)
    else:
        assert shapes is not None
        # gray photographs, such as X-rays, look like masks: without any pictures they are the images
        images = pairs or [Paired(one, one.glob(False), None, None) for one in found]
        made = _of_shapes(tree, name, images, shapes)
    if masked and shapes is not None:
        made.doubts.append(
            f"there are annotation files, too ({len(shapes.files)} of {shapes.form.title}): masks are taken; for those "
            f"write `labels: {{form: {shapes.form.name}, files: {json.dumps(shapes.glob(None))}}}`"
        )
    made.doubts += [
        f"it looks like {like}: if it is, `python -m ingest {like} {tree.root}`" for like in guess.like(tree)
    ]
    if specs := _specs(tree):
        others = f" (also {', '.join(specs[1:])})" if specs[1:] else ""
        made.doubts.append(f"{specs[0]} is a spec: if it is of these files, go by it: --spec {specs[0]}{others}")
    _bands(made, [one for one in pairs if one.masks is not None or not masked])
    classes, splits = made.meaning.classes, [*(["train", "val"] if made.whole else []), *(s.name for s in made.splits)]
    more = f", ... ({len(classes)})" if len(classes) > 12 else ""
    made.notes.append(f"classes: {', '.join(classes[:12])}{more}; splits: {', '.join(splits)}")
    return made


def _no_mask(tree: Tree) -> str:
    """Why the first array file is no mask, as it lies there: several matrices, say."""
    for name in tree.names:
        if name.lower().endswith(ARRAYS):
            try:
                read_mask(tree.source(name).read(), name, colored=None)
            except UserError as error:
                return f"; {error}"
            return ""
    return ""


def _specs(tree: Tree) -> list[str]:
    """Specs that lie at the top of the folder."""
    found = []
    for path in sorted([*tree.root.glob("*.yaml"), *tree.root.glob("*.yml")]) if tree.root.is_dir() else []:
        try:
            check(yaml_file.read(path), str(path))
        except UserError:  # another tool's: `data.yaml` of YOLO, say
            continue
        found.append(str(path))
    return found


def _of_masks(tree: Tree, name: str, pairs: Sequence[Paired]) -> Draft:
    main = [one for one in pairs if one.masks is not None]
    masks = [mask for one in main for _, mask in one.pairs]
    made = Draft(name, meaning(tree, masks, names.find(tree)), [])
    made.notes, made.doubts = list(made.meaning.notes), list(made.meaning.doubts)
    examples = [example for one in main for example in one.pairs]
    made.examples = spread(examples, 3)
    for one in reversed(main):
        made.notes.insert(0, f"{count(len(one.pairs), 'image')} {one.image_glob} with masks {one.mask_glob}")
        if one.unpaired:
            made.doubts.append(f"{one.unpaired} of {one.image_glob} have no mask: --skip-bad leaves them out")
        if one.rivals:
            others = ", ".join(rival.glob(False) for rival in one.rivals[:3])
            made.doubts.append(f"{one.image_glob} may go with other masks as well: {others}")
    alone = [one for one in pairs if one.masks is None and one.images.split is not None]
    for one in alone:
        made.notes.append(f"{count(len(one.images.names), 'image')} {one.image_glob} without labels: for prediction")
    _splits(tree, made, main, alone)
    return made


def _of_shapes(tree: Tree, name: str, pairs: Sequence[Paired], shapes: Annotations) -> Draft:
    """Images and annotation files."""
    classes = [one for one in shapes.categories if one and one.lower() not in (*_BACKGROUND, "__ignore__")]
    made = Draft(name, Meaning(["background", *classes]), [])
    if not classes:
        made.doubts.append("the annotation files name no categories: list the classes yourself")
        made.meaning.classes.append("object")
    made.notes = [f"{count(len(shapes.files), 'annotation file')} ({shapes.form.title}): {shapes.glob(None)}"]
    if classes:
        more = ", ..." if len(classes) > 12 else ""
        made.notes.append(f"categories: {', '.join(classes[:12])}{more}")
    made.doubts.append("what no shape covers is `background`: write `background: ignore` if not all is annotated")
    if shapes.broken:
        made.doubts.append(f"not all could be read: {shapes.broken}")
    made.doubts += shapes.doubts
    attribute = f"attribute: {json.dumps(shapes.attribute)}, " if shapes.attribute else ""
    files = json.dumps(shapes.glob(None))
    made.form = f"{{form: {shapes.form.name}, files: {files}, {attribute}background: background}}"
    for one in pairs:
        made.notes.insert(0, f"{count(len(one.images.names), 'image')} {one.image_glob}")
    first = [image for one in pairs for image in one.images.names]
    made.examples = [(image, f"shapes in {shapes.glob(None)}") for image in spread(first, 3)]
    _splits(tree, made, pairs, [])
    for split in [*made.splits, *([made.whole] if made.whole else [])]:
        own = shapes.glob(split.name)
        split.alone = not shapes.cover(list(tree.match(split.images)))
        split.labels = None if split.alone or own == shapes.glob(None) else own
        if split.alone:
            made.notes.append(f"no annotation file has images of {split.images}: they are for prediction")
    return made


def _splits(tree: Tree, made: Draft, main: Sequence[Paired], alone: Sequence[Paired]) -> None:
    """By folders that name splits, by lists, or by shares."""
    by_name: dict[str, Paired] = {}
    for one in [*main, *alone]:
        split = one.images.split or (one.masks.split if one.masks else None) or ""
        if split not in by_name:
            by_name[split] = one
        elif one in main:
            made.doubts.append(f"{one.image_glob} was left out: {by_name[split].image_glob} is the same split")
    unnamed = by_name.pop("", None) if len(by_name) > 1 else None
    if unnamed is not None:
        made.doubts.append(f"{unnamed.image_glob} names no split and was left out: add it if it belongs to one")
    if set(by_name) == {"train", "test"} and by_name["test"].masks is None:  # as competitions publish them
        _dealt(made, by_name.pop("train"))
        made.splits += [Split("test", by_name["test"].image_glob, None)]
        return
    if set(by_name) - {"", "test"}:
        order = [split for split in SPLITS if split in by_name]
        made.splits = [Split(split, by_name[split].image_glob, by_name[split].mask_glob) for split in order]
        _doubt_missing(made)
        return
    whole = next(iter(by_name.values()))
    if lists := _lists(tree, whole):
        made.splits = [Split(split, whole.image_glob, whole.mask_glob, file) for split, file in lists.items()]
        made.notes.append(f"splits by lists: {', '.join(lists.values())}")
        _doubt_missing(made)
        return
    _dealt(made, whole)


def _doubt_missing(made: Draft) -> None:
    """What training needs and the folder does not part off."""
    there = [split.name for split in made.splits]
    if "train" not in there:
        made.doubts.append("there is no train split: nets can be evaluated on these images, but not trained")
    if "val" not in there:
        made.doubts.append("there is no val split: training needs images to validate on; see docs/ingest.md on shares")


def _dealt(made: Draft, whole: Paired) -> None:
    """Splits by share."""
    made.whole = Split("", whole.image_glob, whole.mask_glob)
    made.group = _group(made, whole.images.names)
    made.notes.append("no folder and no list names a val split: a fifth of the images becomes that")


def _group(made: Draft, images: Sequence[str]) -> str:
    """What in the names keeps frames of one drive, or tiles of one scene, together."""
    stems = [os.path.splitext(os.path.basename(name))[0] for name in images]
    hits = [re.match(r"(.*[A-Za-z0-9])[_-](?:[A-Za-z]{1,6})?\d+$", stem) for stem in stems]
    groups = {hit[1] for hit in hits if hit}
    if all(hits) and 4 <= len(groups) <= len(stems) / 2:
        made.doubts.append(
            f"names fall into {len(groups)} groups ({', '.join(sorted(groups)[:3])}, ...), which stay together in a "
            "split: drop `group` if images of one group are not alike"
        )
        return r"([^/]*[A-Za-z0-9])[_-](?:[A-Za-z]{1,6})?[0-9]+\.[^./]*$"
    made.doubts.append("are the images frames of a video or tiles of scenes? Then keep them together by `group`")
    return ""


def _lists(tree: Tree, whole: Paired) -> dict[str, str]:
    """Split -> list file that names images of this family."""
    stems = {os.path.splitext(os.path.basename(name))[0] for name in whole.images.names}
    found: dict[str, str] = {}
    for name in tree.names:
        stem, ext = os.path.splitext(os.path.basename(name))
        split = next((one for one, words in SPLITS.items() if stem.lower() in words), None)
        if ext.lower() not in (".txt", ".lst") or split is None or split in found:
            continue
        lines = [re.split(r"[\t, ]", line.strip())[0] for line in tree.text(name).splitlines() if line.strip()]
        known = [
            line
            for line in lines
            if os.path.basename(line) in stems or os.path.splitext(os.path.basename(line))[0] in stems
        ]
        if lines and len(known) == len(lines):
            found[split] = name
    return {split: found[split] for split in SPLITS if split in found} if "train" in found else {}


def _bands(made: Draft, pairs: Sequence[Paired]) -> None:
    """Scenes of many bands or of more than 8 bits."""
    looks = [look for one in pairs for look in one.images.looks if look.kind == "picture"]
    most = max((look.bands for look in looks), default=3)
    made.deep = any(look.dtype != "uint8" for look in looks)
    if most not in (0, 1, 3) or (made.deep and most == 3):
        made.bands = list(range(1, min(most, 16) + 1))
        made.notes.append(f"images have {most} bands: all are taken, up to 16; the net's first layer follows")
    if made.deep:
        dtypes = ", ".join(sorted({look.dtype for look in looks}))
        made.notes.append(f"images hold {dtypes}: what becomes 0..255 is measured, from the 2nd to the 98th percentile")
