"""A dataset described by a small YAML file: what the masks hold, which files make which split. Read and checked here.

`ingest/specs/camvid.yaml` is the example that explains each key; docs/ingest.md has them all.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ingest.errors import UserError, brief, nearest
from ingest.forms import settings
from ingest.forms.settings import LabelSpec
from ingest.pixels import recipe
from ingest.pixels.labels import Color, LabelMap, voc_palette
from ingest.pixels.recipe import PixelRecipe
from ingest.shards.manifest import IGNORE
from ingest.spec import label_map, yaml_file

SHIPPED = Path(__file__).parent.parent / "specs"
_PIXEL_KEYS = ("bands", "range", "percentiles", "nodata")
_KEYS = ("name", "classes", "palette", "images", "labels", "splits", *label_map.KEYS, *_PIXEL_KEYS)
_SHARE_KEYS = ("seed", "group")  # beside split names, where splits are shares
_LONGEST = 60  # letters of a name that files are named after


@dataclass(frozen=True)
class SplitSpec:
    """Which files make a split: globs, or a list file that chooses among them or names pairs of paths."""

    images: str | None
    labels: str | None  # None: images alone; of annotation files where the spec names a form
    list: str | None = None


@dataclass(frozen=True)
class Shares:
    """Splits by share: what the globs match, dealt out."""

    parts: dict[str, float]  # split -> share; they add up to 1
    seed: int = 0
    group: re.Pattern[str] | None = None  # what it finds in an image's name stays together


@dataclass(frozen=True)
class Spec:
    """A spec file, checked."""

    name: str
    classes: list[str]
    palette: list[Color]
    labels: LabelMap
    splits: dict[str, SplitSpec]
    pixels: PixelRecipe = field(default_factory=PixelRecipe)
    path: str = ""
    shapes: LabelSpec | None = None  # `labels`: annotation files that hold shapes, instead of masks
    shares: Shares | None = None
    said_values: bool = True  # whether the spec says what the masks hold (`ids`, `colors`, `from`)


def load_spec(name_or_path: str) -> Spec:
    """Reads a spec file, or a shipped one by its name. Raises UserError naming the file and the key at fault."""
    path = _locate(name_or_path)
    return check(yaml_file.read(path), str(path))


def _ignores(raw: Any) -> bool:
    """Whether the spec itself says that 255 is ignored."""
    return IGNORE in raw if isinstance(raw, list) else raw == IGNORE


def _locate(name_or_path: str, where: str = "--spec ") -> Path:
    path = Path(name_or_path)
    try:
        if not path.suffix and not path.exists():
            path = SHIPPED / f"{name_or_path}.yaml"
        is_file = path.is_file()
    except (OSError, ValueError):  # a name of thousands of letters, or with a zero byte
        is_file = False
    if not is_file:
        shipped = sorted(file.stem for file in SHIPPED.glob("*.yaml"))
        raise UserError(
            f"{where}{brief(name_or_path)[1:-1]}: no such file; write one, have one written "
            f"(`python -m ingest folder SRC` without --spec), or name a shipped one: {', '.join(shipped)}"
        )
    return path


def check(raw: Any, path: str, asking: tuple[str, ...] = ()) -> Spec:
    """A spec's content, checked. UserError naming `path` and the key at fault.

    `asking`: the paths of the specs whose `from` led here.
    """
    known(raw, _KEYS, path, "the spec")
    for key in ("name", "classes", "splits"):
        if not raw.get(key):
            raise UserError(f"{path}: {key!r} is missing; ingest/specs/camvid.yaml is an example")
    classes = _classes(raw["classes"], path)
    forms = raw.get("labels") if isinstance(raw.get("labels"), dict) else None
    splits, shares = _splits(raw, path)
    made = Spec(
        name=_file_name(raw["name"], path, "name", "names the output folder"),
        classes=classes,
        palette=_palette(raw, classes, path),
        labels=label_map.check(raw, classes, path, lambda other: _class_values(other, path, asking)),
        splits=splits,
        pixels=_pixels(raw, path),
        path=path,
        shapes=None if forms is None else settings.check(forms, classes, path),
        shares=shares,
        said_values=any(key in raw for key in ("ids", "colors", "from")) or _ignores(raw.get("ignore")),
    )
    if made.shapes is not None and not any(split.labels for split in splits.values()):
        example = f"labels: {{form: {made.shapes.form.name}, files: GLOB}}"
        raise UserError(f"{path}: labels: say where the {made.shapes.form.title} is, as in `{example}`")
    idle = [key for key in label_map.KEYS if key in raw]
    if made.shapes is not None and not made.shapes.form.masks and idle:
        raise UserError(
            f"{path}: {idle[0]!r} is of masks, but `labels` names a form of shapes: leave it out; categories become "
            "classes by `map`, `ignore`, `omit` and `others` under `labels`"
        )
    return made


def _class_values(name_or_path: str, path: str, asking: tuple[str, ...]) -> tuple[list[str], LabelMap]:
    """Classes and values of the spec that `from` names, relative to the one at `path`."""
    beside = Path(path).parent / name_or_path
    found = _locate(str(beside) if beside.is_file() else name_or_path, f"{path}: from: ")
    if str(found) in (*asking, path):
        raise UserError(
            f"{path}: from: {name_or_path} leads back to itself: name the spec that the masks were made for"
        )
    other = check(yaml_file.read(found), str(found), (*asking, path))
    return other.classes, other.labels


def _classes(raw: Any, path: str) -> list[str]:
    if not isinstance(raw, list) or not 1 <= len(raw) < IGNORE or len(set(map(str, raw))) < len(raw):
        raise UserError(f"{path}: 'classes' must be a list of 1 to 254 different names, not {brief(raw)}")
    for name in raw:
        if not isinstance(name, str) or not name.strip() or not name.isprintable():
            raise UserError(f"{path}: classes: {brief(name)} is no name: use letters that can be printed")
    return [str(name) for name in raw]


def _file_name(raw: Any, path: str, key: str, why: str) -> str:
    name = str(raw)
    if not name.isprintable() or re.search(r"[/\\]", name) or name.startswith((".", " ")) or len(name) > _LONGEST:
        raise UserError(
            f"{path}: {key} {brief(name)} {why}: use letters, digits, '_' and '-', at most {_LONGEST} of them"
        )
    return name


def _palette(raw: dict[str, Any], classes: Sequence[str], path: str) -> list[Color]:
    palette = raw.get("palette")
    if palette is None:
        # black reads as "nothing": for the background, which is that, alone
        start = 0 if classes[0].lower() in ("background", "_background_", "__background__") else 1
        return voc_palette(len(classes) + start)[start:]
    if not isinstance(palette, list) or len(palette) != len(classes):
        raise UserError(f"{path}: 'palette' must be a list of {len(classes)} colors, one a class")
    return [label_map.color(one, path) for one in palette]


def _pixels(raw: dict[str, Any], path: str) -> PixelRecipe:
    """`bands: [4, 3, 2]`, `range: [low, high]` or such a pair a band, `percentiles: [2, 98]`, `nodata: 0`."""
    bands = raw.get("bands", [])
    if not isinstance(bands, list) or ("bands" in raw and not bands) or not all(type(band) is int for band in bands):
        raise UserError(f"{path}: 'bands' must list band numbers, 1 first, not {brief(raw['bands'])}")
    given = raw.get("range") or []
    pairs = given if isinstance(given, list) and given and isinstance(given[0], list) else [given] if given else []
    nodata = raw.get("nodata")
    found = PixelRecipe(
        tuple(bands),
        tuple(_pair(pair, path, "range") for pair in pairs),
        None if raw.get("percentiles") is None else _pair(raw["percentiles"], path, "percentiles"),
        None if nodata is None else number(nodata, path, "nodata", finite=False),
    )
    recipe.check(found, path)
    return found


def _pair(raw: Any, path: str, key: str) -> tuple[float, float]:
    if not isinstance(raw, list) or len(raw) != 2:
        more = ", or such a pair a band" if key == "range" else ""
        raise UserError(f"{path}: {key!r} must be [low, high]{more}, not {brief(raw)}")
    return number(raw[0], path, key), number(raw[1], path, key)


def number(raw: Any, path: str, key: str, finite: bool = True) -> float:
    """A number of a spec; also `1e5`, which YAML takes for text. UserError naming the key."""
    try:
        value = float(raw) if type(raw) in (int, float, str) else None
    except (ValueError, OverflowError):
        value = None
    if value is None or (finite and not abs(value) < float("inf")):
        raise UserError(f"{path}: {key!r} must be a number, not {brief(raw)}")
    return value


def _splits(raw: dict[str, Any], path: str) -> tuple[dict[str, SplitSpec], Shares | None]:
    splits = raw["splits"]
    if not isinstance(splits, dict):
        example = "train: {images: a/*.jpg, labels: b/*.png}, or shares, as in {train: 0.8, val: 0.2}"
        raise UserError(f"{path}: 'splits' must map names to globs, as in {example}")
    images = _glob(raw.get("images"), path, "images")
    held = raw.get("labels")
    labels = settings.glob(held) if isinstance(held, dict) else _glob(held, path, "labels")
    named = {name: value for name, value in splits.items() if name not in _SHARE_KEYS}
    for name in named:
        if not re.fullmatch(r"[\w-]+", str(name)):
            raise UserError(f"{path}: split name {brief(name)} names files: use letters, digits, '_' and '-'")
        _file_name(name, path, "split name", "names files")
    dealt = {name: value for name, value in named.items() if type(value) in (int, float)}
    shares = _shares(splits, dealt, images, path) if dealt else None
    found: dict[str, SplitSpec] = {}
    for name, globs in (named if dealt else splits).items():
        if name in dealt:
            found[str(name)] = SplitSpec(images, labels)
            continue
        known(globs, ("images", "labels", "list"), path, f"split {name!r}")
        mine = SplitSpec(
            _glob(globs.get("images"), path, f"splits: {name}: images") or images,
            _glob(globs["labels"], path, f"splits: {name}: labels") if "labels" in globs else labels,  # null: alone
            _glob(globs.get("list"), path, f"splits: {name}: list"),
        )
        if mine.images is None and mine.list is None:
            raise UserError(f"{path}: split {name!r} has no 'images' glob")
        found[str(name)] = mine
    return found, shares


def _shares(splits: dict[str, Any], named: dict[str, Any], images: str | None, path: str) -> Shares:
    if images is None:
        raise UserError(f"{path}: splits by share need the globs at the top: images: img/*.jpg and labels: lbl/*.png")
    parts = {str(name): number(value, path, f"splits: {name}") for name, value in named.items()}
    if any(not 0 < part <= 1 for part in parts.values()) or abs(sum(parts.values()) - 1) > 1e-6:
        raise UserError(f"{path}: the shares of 'splits' must lie in 0..1 and add up to 1, not {brief(named)}")
    seed, group = splits.get("seed", 0), splits.get("group")
    if type(seed) is not int:
        raise UserError(f"{path}: splits: seed must be a whole number, not {brief(seed)}")
    try:
        pattern = None if group is None else re.compile(str(group))
    except (re.error, RecursionError, OverflowError) as error:
        raise UserError(f"{path}: splits: group {brief(group)} is no regular expression ({error})") from error
    return Shares(parts, seed, pattern)


def _glob(raw: Any, path: str, key: str) -> str | None:
    if raw is None:
        return None
    if not isinstance(raw, str):
        raise UserError(f"{path}: {key} must be a glob, as in images/*.jpg, not {brief(raw)}")
    return raw


def known(raw: Any, keys: Sequence[str], path: str, what: str) -> None:
    """UserError where `raw` is no mapping, or has other keys than these."""
    if not isinstance(raw, dict):
        raise UserError(f"{path}: {what} must be a mapping with the keys {', '.join(keys)}, not {brief(raw)}")
    for key in raw:
        if key not in keys:
            raise UserError(f"{path}: {what} has an unknown key {brief(key)}{nearest(str(key), keys)}")
