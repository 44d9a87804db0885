"""Any folder of images and masks, described by a small YAML spec: `python -m ingest folder SRC --spec dataset.yaml`."""

from __future__ import annotations

import dataclasses
import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from ingest.errors import UserError
from ingest.forms import annotated, settings, vector
from ingest.shards.manifest import IGNORE, Skipped
from ingest.shards.wording import count
from ingest.sources.archives import Source
from ingest.sources.raw import Pair, RawDataset, choose_splits
from ingest.sources.trees import Tree
from ingest.spec import peek
from ingest.spec.schema import Spec, load_spec
from ingest.spec.splits import Files, by_globs, by_share, paired

__all__ = ["find", "load_spec"]
_END = 16384  # bytes from either end of a file that tell files of one size apart


def find(src: Path, spec: Spec, splits: Sequence[str] = (), skip_bad: bool = False) -> RawDataset:
    """Pairs the spec's files. Raises UserError on an empty split, an image without label, two labels for one image."""
    tree = Tree(src)
    spec = _with_named_colors(tree, spec)
    names = choose_splits(splits, list(spec.splits))
    dealt = {} if spec.shares is None else by_share(tree, spec, spec.shares)
    pairs: dict[str, list[Pair]] = {}
    skipped: dict[str, list[Skipped]] = {}
    used: list[Files] = []
    for name in names:
        files = dealt[name] if name in dealt else by_globs(tree, spec, name, spec.splits[name])
        pairs[name], skipped[name] = _labeled(tree, spec, name, files, skip_bad)
        used.append(files)
    raw = RawDataset(spec.name, spec.classes, spec.palette, spec.labels, pairs, skipped, pixels=spec.pixels)
    raw = _with_binary(raw, spec)
    background = spec.shapes.rules.background if spec.shapes else settings.background(spec.classes)
    raw = dataclasses.replace(raw, background=None if background == IGNORE else background)
    drawn = [] if spec.shapes is None else [annotated.note(spec.shapes, spec.classes)]
    alone = [] if len(names) < len(spec.splits) else _without_image(used, spec)
    return dataclasses.replace(raw, notes=[*raw.notes, *drawn, *alone, *_shared(pairs)])


def _without_image(splits: Sequence[Files], spec: Spec) -> list[str]:
    """A note of masks that go with no image: its ending may be another than the glob's. Lists leave out on purpose."""
    if any(split.list is not None for split in spec.splits.values()):
        return []
    masks = {mask for files in splits for mask in (files.labels or {}).values()}
    alone = sorted(
        masks - {mask for files in splits for text, mask in (files.labels or {}).items() if text in files.images}
    )
    if not alone:
        return []
    are = "goes" if len(alone) == 1 else "go"
    return [
        f"note: {count(len(alone), 'mask')} {are} with no image that `images` matches (such as {alone[0]}) and "
        f"{'is' if len(alone) == 1 else 'are'} passed over"
    ]


def _with_named_colors(tree: Tree, spec: Spec) -> Spec:
    """The spec of color masks whose classes a file names, as if it listed the colors itself."""
    if spec.shapes is None or not spec.shapes.form.masks:
        return spec
    labels = dataclasses.replace(spec.labels, ids={}, colors=annotated.mask_colors(tree, spec.shapes))
    return dataclasses.replace(spec, labels=labels, shapes=None, said_values=True)


def _labeled(tree: Tree, spec: Spec, split: str, files: Files, skip_bad: bool) -> tuple[list[Pair], list[Skipped]]:
    """A split's images with their masks, or with the shapes that annotation files have of them."""
    of_shapes = spec.splits[split].labels
    if spec.shapes is None or not of_shapes:
        return paired(tree, files, skip_bad)
    if spec.shapes.form.on_the_map:
        return vector.pair(tree, files.images.values(), spec.shapes, of_shapes, skip_bad)
    found = annotated.pair(tree, files.images.values(), spec.shapes, of_shapes, skip_bad)
    return found.pairs, found.skipped


def _with_binary(raw: RawDataset, spec: Spec) -> RawDataset:
    """Masks of 0 and 255, where the spec says nothing of values: two classes, not one and an ignored one."""
    found = None if spec.said_values or spec.shapes is not None else peek.binary(raw)
    if found is None:
        return raw
    return dataclasses.replace(raw, labels=found[0], notes=[*raw.notes, f"note: {found[1]}"])


def _shared(pairs: Mapping[str, Sequence[Pair]]) -> list[str]:
    """A warning for each two splits that hold the same images: a score on them says nothing."""
    splits = {name: _digests([pair.image for pair in mine], _sizes(pairs, name)) for name, mine in pairs.items()}
    notes = []
    names = list(splits)
    for number, one in enumerate(names):
        for other in names[number + 1 :]:
            both = sorted(splits[one].keys() & splits[other].keys())
            if both:
                first = splits[one][both[0]]
                notes.append(
                    f"warning: {len(both)} {'image is' if len(both) == 1 else 'images are'} in {one} and in {other} "
                    f"(such as {first}): scores on images that a net was trained on say nothing; mend the spec's splits"
                )
    return notes


def _sizes(pairs: Mapping[str, Sequence[Pair]], mine: str) -> set[int]:
    """File sizes that occur in other splits."""
    return {pair.image.size for name, others in pairs.items() if name != mine for pair in others}


def _digests(images: Iterable[Source], sizes: set[int]) -> dict[bytes, str]:
    """What identifies each image whose size occurs elsewhere -> its name. Contents count, not names."""
    alike: defaultdict[bytes, list[Source]] = defaultdict(list)
    for image in images:
        if image.size in sizes:
            alike[_ends(image)].append(image)
    return {key: found[0].name for key, found in alike.items()}


def _ends(image: Source) -> bytes:
    """A digest of a file's size and its ends: formats have checksums or compressed data there."""
    try:
        if image.loose:
            with open(image.path, "rb") as file:
                head = file.read(_END)
                file.seek(max(0, image.size - _END))
                data = head + file.read(_END)
        else:
            data = image.read()
    except (OSError, UserError):  # told when the sample is converted
        data = image.name.encode("utf-8", "surrogateescape")
    return hashlib.sha256(str(image.size).encode() + data).digest()
