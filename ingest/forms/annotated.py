"""Annotation files of any form, to labels of images: categories to classes, records to images, drawn by the workers."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ingest.errors import UserError
from ingest.forms import labelmap, registry
from ingest.forms.form import Form, Record
from ingest.forms.settings import LabelSpec
from ingest.pixels.colors import Color
from ingest.pixels.polygons import Drawing, Rules, draw
from ingest.shards.manifest import IGNORE, Skipped
from ingest.shards.wording import count
from ingest.sources.archives import Source
from ingest.sources.raw import Pair
from ingest.sources.trees import Tree, composed

IMAGES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".gif", ".ppm", ".pgm", ".jp2")
_BYTES = 20_000  # of a label as a PNG, at most, for the planning of shards: an annotation may hold the picture, too
_UPLOADED = re.compile(r"[0-9a-f]{8}-(?=.)")  # what Label Studio puts before the names of uploaded files


@dataclass(frozen=True)
class Label:
    """The label of one image: a record of an annotation file, or a file of its own, and how to draw it."""

    name: str
    size: int  # about its bytes in a shard
    form: str
    record: bytes | Source
    rules: Rules

    @property
    def upright(self) -> bool:
        """Whether the shapes were drawn on the picture as its EXIF tag turns it."""
        return registry.get(self.form).upright

    def drawing(self) -> Drawing:
        """The shapes. UserError where the record is broken."""
        form = registry.get(self.form)
        if not isinstance(self.record, Source):
            return form.parse(self.record, self.name)
        with _of_the_form(form, self.record):
            return form.parse(self.record.read(), self.name)

    def ids(self, height: int, width: int) -> NDArray[np.uint8]:
        """Train ids [H, W] for an image of that size, or of a turned one. UserError: another size, a shape at fault."""
        drawing = self.drawing()
        # An EXIF tag may turn the picture by 90 degrees: whether it does is seen when the image is read.
        hw = (width, height) if drawing.hw == (width, height) else (height, width)
        return draw(drawing, hw, self.name, self.rules, registry.get(self.form).smaller_on_top)


def note(spec: LabelSpec, classes: Sequence[str]) -> str:
    """How labels are drawn, to be said once."""
    over = "smaller objects lie on larger ones" if spec.form.smaller_on_top else "later shapes lie on earlier ones"
    background = spec.rules.background
    outside = "ignored" if background == IGNORE else f"the class {classes[background]!r}"
    return f"note: labels are drawn from {spec.form.title}: {over}; pixels outside of all shapes are {outside}"


def mask_colors(tree: Tree, spec: LabelSpec) -> dict[Color, int]:
    """Color -> train id, from the file that names the colors of masks."""
    found: dict[Color, int] = {}
    for source in sources(tree, spec, spec.files or ""):
        found |= labelmap.colors(source, spec.rules)
    return found


@dataclass
class Paired:
    """A split's images with their labels."""

    pairs: list[Pair] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)


def pair(tree: Tree, images: Iterable[str], spec: LabelSpec, files: str, skip_bad: bool) -> Paired:
    """A split's images with what the annotation files that match `files` say of them.

    A record for an image of another split is passed over; one for an image that is nowhere, and an image without a
    record, are a UserError, or listed under `skip_bad`.
    """
    chosen = list(images)
    spec = _by_number(tree, spec)
    labels, paired = _labels(tree, chosen, spec, files, skip_bad)
    for image in chosen:
        label = labels.get(image)
        if label is None and spec.form.blank:
            label = Label(f"{image} (no annotation file)", 0, spec.form.name, b"", spec.rules)
        if label is not None:
            try:
                paired.pairs.append(Pair(tree.source(image), label))
            except UserError as error:  # the image is gone, or no regular file
                if not skip_bad:
                    raise
                paired.skipped.append(Skipped(image, str(error)))
            continue
        reason = f"{files!r} says nothing of it"
        if not skip_bad:
            raise UserError(
                f"{image} has no label: {reason} ({count(len(chosen), 'image')}, {len(labels)} of them annotated): "
                "annotate it, remove the image, or leave such images out with --skip-bad"
            )
        paired.skipped.append(Skipped(image, reason))
    return paired


def _by_number(tree: Tree, spec: LabelSpec) -> LabelSpec:
    """The same for a form whose categories are numbers, by the names that a file (or the spec) gives them."""
    form, names = spec.form, spec.names
    if form.names_in is None or form.categories is None:
        return spec
    if isinstance(names, str) and names and names not in tree:
        raise UserError(f"{spec.path}: labels: names: no file {names!r} below {tree.root}")
    if isinstance(names, str):
        names = tuple(form.names_in(tree.source(names)) if names else form.categories(tree, ()))
    called = {str(number): name for number, name in enumerate(names)}
    return dataclasses.replace(spec, rules=dataclasses.replace(spec.rules, called=called))


def _labels(
    tree: Tree, images: Sequence[str], spec: LabelSpec, files: str, skip_bad: bool
) -> tuple[dict[str, Label], Paired]:
    """Image -> its label, and what was left out."""
    finder = Finder(tree, images)
    labels: dict[str, Label] = {}
    left_out = Paired()
    for source in sources(tree, spec, files):
        with _of_the_form(spec.form, source):
            held_records = records(spec.form, source, spec.attribute)
        for record in held_records:
            name = f"{source.name}: {record.image}" if spec.form.split else source.name
            try:
                with _of_the_form(spec.form, source):
                    image = finder.find(record.image, os.path.dirname(source.name), name)
                if image is not None and image in labels:
                    raise UserError(f"{name} and {labels[image].name} are both of {image}: keep one of them")
            except UserError as error:
                if not skip_bad:
                    raise
                left_out.skipped.append(Skipped(record.image if spec.form.split else source.name, str(error)))
                continue
            if image is not None:
                held: bytes | Source = record.data if spec.form.split else source
                size = min(len(record.data) if spec.form.split else source.size, _BYTES)
                labels[image] = Label(name, size, spec.form.name, held, spec.rules)
    return labels, left_out


@contextlib.contextmanager
def _of_the_form(form: Form, source: Source) -> Iterator[None]:
    """What goes wrong inside with a file that is plainly of another form is a UserError that says which."""
    try:
        yield
    except UserError as error:
        head = source.read()[: registry.HEAD]
        like = registry.recognize(source.name, head)
        if like is None or like is form or form.looks_like(source.name, head):
            raise
        raise UserError(
            f"{source.name} is {like.title}, not {form.title}: write `form: {like.name}` in the spec, or mend `files`"
        ) from error


def sources(tree: Tree, spec: LabelSpec, files: str) -> list[Source]:
    """The annotation files. UserError where there is none."""
    found = [tree.source(name) for name in tree.match(files)]
    if not found and not spec.form.blank:
        raise UserError(
            f"no file below {tree.root} matches {files!r} (there are: {tree.describe()}): mend `files` in {spec.path}"
        )
    return found


def records(form: Form, source: Source, attribute: str | None = None) -> list[Record]:
    """What an annotation file says, image by image; a file for one image is one record, not read yet."""
    if form.split is None:
        return [Record(os.path.basename(form.image_of(source.name)), b"")]
    return form.split(source.read(), source.name, attribute)


def names_of(image: str) -> tuple[str, str]:
    """The file name that an annotation means, composed, in lower case: as it says, and as it was before an upload."""
    last = composed(re.split(r"[/\\]", image)[-1]).lower()
    return last, _UPLOADED.sub("", last, 1)


class Finder:
    """Images by the names that annotations give them: the last part must be equal, the folders tell equals apart."""

    def __init__(self, tree: Tree, preferred: Iterable[str]) -> None:
        self._preferred = set(preferred)
        self._by_file: defaultdict[str, list[str]] = defaultdict(list)
        self._by_stem: defaultdict[str, list[str]] = defaultdict(list)
        for name in tree.names:
            stem, suffix = os.path.splitext(composed(os.path.basename(name)))
            if suffix.lower() in IMAGES or name in self._preferred:
                self._by_file[(stem + suffix).lower()].append(name)
                self._by_stem[stem.lower()].append(name)

    def find(self, image: str, folder: str, where: str) -> str | None:
        """The tree's name of an image; None for one that is not among the preferred. UserError: absent, or a guess.

        Only names that the tree holds are ever returned: no `..`, absolute path or URL leads out of it.
        """
        parts = [part for part in image.replace("\\", "/").split("/") if part not in ("", ".", "..")]
        last, before = names_of(parts[-1] if parts else "")
        found = self._by_file.get(last) or self._by_stem.get(last) or self._by_file.get(before)
        if not found:
            raise UserError(
                f"{where}: there is no image {image!r}: add it below SRC, or remove what the annotation says of it "
                "(--skip-bad leaves it out)"
            )
        folders = parts[:-1] or folder.split("/")
        scores = {name: _in_common(folders, name.split("/")[:-1]) for name in found}
        best = [name for name in found if scores[name] == max(scores.values())]
        mine = [name for name in best if name in self._preferred]
        if len(mine) > 1:
            raise UserError(f"{where}: {image!r} may be {mine[0]} or {mine[1]}: keep one of them, or split by folder")
        return mine[0] if mine else None


def _in_common(one: Sequence[str], other: Sequence[str]) -> int:
    """Folders that two paths share, counted from both ends."""
    shortest = min(len(one), len(other))
    start = next((n for n in range(shortest) if one[n] != other[n]), shortest)
    end = next((n for n in range(shortest) if one[-1 - n] != other[-1 - n]), shortest)
    return start + end
