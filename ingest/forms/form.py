"""Label forms: annotation files that hold shapes instead of pixels (COCO json, LabelMe json, ...).

One module a form, `ingest/forms/<form>.py`, each with a constant `FORM`; `registry.MODULES` names them. In a spec:

    labels: {form: coco, files: "annotations/*.json"}     # `files` is a glob, relative to SRC

A form says how its files look, into which records one file for many images is cut (in the parent process, once), and
how one record is parsed (in the worker that converts the image). `ingest.forms.annotated` does the rest: it pairs
records with images, turns categories into classes, and draws.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ingest.errors import UserError
from ingest.pixels.colors import Color
from ingest.pixels.polygons import Drawing, Ring
from ingest.sources.archives import Source
from ingest.sources.trees import Tree


@dataclass(frozen=True)
class Record:
    """What a file for many images says of one of them."""

    image: str  # as the annotation names it: a file name, a path or a URL
    data: bytes  # for `Form.parse`


def _without_suffix(name: str) -> str:
    return os.path.splitext(name)[0]


@dataclass(frozen=True)
class Form:
    """A label form."""

    name: str  # as in a spec: `form: coco`
    title: str  # for people: "COCO json"
    looks_like: Callable[[str, bytes], bool]  # (file name, its first 64 KiB) -> is it one of these?
    parse: Callable[[bytes, str], Drawing]  # (a record, or a file for one image; its name for messages)
    # A file for many images, cut into records: (file, its name, the attribute that names classes). None: one an image.
    split: Callable[[bytes, str, str | None], list[Record]] | None = None
    # One file an image: the image's name without extension, from the file's name.
    image_of: Callable[[str], str] = _without_suffix
    # Category names in their order, with the tool's color, from the annotation files or others beside them.
    categories: Callable[[Tree, Sequence[Source]], dict[str, Color | None]] | None = None
    smaller_on_top: bool = False  # else: later shapes on earlier ones, as the tool draws them
    upright: bool = True  # the tool shows pictures as their EXIF tag says, and its coordinates are of that view
    names_in: Callable[[Source], list[str]] | None = None  # categories are numbers: the names that a file gives them
    masks: bool = False  # the file names the colors of masks, which the splits' `labels` find
    blank: bool = False  # an image without a file of its own shows background only
    on_the_map: bool = False  # shapes in map coordinates, of whichever scenes lie there; an attribute names the class


@contextlib.contextmanager
def reading(name: str, where: str, title: str) -> Iterator[None]:
    """What goes wrong inside is the file's fault: UserError names the file, the object, and what it should be.

    For code that takes a parsed file apart: a missing key, a list in place of a number, and so on.
    """
    try:
        yield
    except UserError:
        raise
    except KeyError as error:
        raise UserError(f"{name}: {where} has no {error}: is it whole {title}? Export it again, or mend it") from error
    except (ArithmeticError, AttributeError, IndexError, RecursionError, TypeError, ValueError) as error:
        raise UserError(
            f"{name}: {where} is not as {title} has it ({error}): export it again, or mend or remove it"
        ) from error


def load_json(data: bytes, name: str, title: str) -> Any:
    """A parsed json file. UserError says where it breaks."""
    try:
        return json.loads(data.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError is a ValueError, too
        raise UserError(f"{name} is broken json ({error}): export it again as {title}, or remove it") from error


def ring(points: Any) -> Ring:
    """[[x, y], ...] as float64 [N, 2]. TypeError or ValueError where it is anything else."""
    import numpy as np

    array = np.array(points, np.float64)
    if array.ndim == 1 and not array.size:
        return array.reshape(0, 2)
    if array.ndim != 2 or array.shape[1] != 2:
        raise ValueError("an outline that is no list of x, y pairs")
    return array
