"""Any folder of images and masks, described by a small YAML spec: `python -m ingest folder SRC --spec dataset.yaml`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from ingest.datasets import annotated, label_spec
from ingest.datasets.label_spec import LabelSpec
from ingest.errors import UserError, nearest
from ingest.pixels.labels import Color, LabelMap, voc_palette
from ingest.pixels.recipe import PixelRecipe
from ingest.shards.manifest import IGNORE, Skipped
from ingest.sources.raw import Pair, RawDataset, choose_splits, pair_up
from ingest.sources.trees import Tree

_KEYS = ("name", "classes", "palette", "ids", "colors", "ignore", "bands", "range", "splits", "labels")
SHIPPED = Path(__file__).parent.parent / "specs"


@dataclass(frozen=True)
class Spec:
    """dataset.yaml, checked. `ingest/specs/camvid.yaml` explains each key."""

    name: str
    classes: list[str]
    palette: list[Color]
    labels: LabelMap
    splits: dict[str, tuple[str, str | None]]  # name -> glob of images, glob of labels
    bands: PixelRecipe
    path: str = field(default="")
    shapes: LabelSpec | None = None  # `labels`: annotation files that hold shapes, instead of masks


def find(src: Path, spec: Spec, splits: Sequence[str] = (), skip_bad: bool = False) -> RawDataset:
    """Pairs the spec's files. Raises UserError on an empty split, an image without label, two labels for one image."""
    tree = Tree(src)
    names = choose_splits(splits, list(spec.splits))
    paired, skipped = {}, {}
    for name in names:
        paired[name], skipped[name] = _pair(tree, spec, name, skip_bad)
    return RawDataset(spec.name, spec.classes, spec.palette, spec.labels, paired, skipped, pixels=spec.bands)


def _pair(tree: Tree, spec: Spec, split: str, skip_bad: bool) -> tuple[list[Pair], list[Skipped]]:
    """Pairs by what the wildcards stand for, never by order."""
    image_glob, label_glob = spec.splits[split]
    images = _by_text(tree, image_glob) if spec.shapes is None else {name: name for name in tree.match(image_glob)}
    if not images:
        raise UserError(
            f"split {split!r}: no file below {tree.root} matches {image_glob!r} (there are: {tree.describe()}): "
            f"give the right folder, or mend the glob in {spec.path}"
        )
    if spec.shapes is not None and (label_glob or spec.shapes.files):
        found = annotated.pair(tree, images, spec.shapes, label_glob or spec.shapes.files, skip_bad)
        return found.pairs, found.skipped
    labels = None if label_glob is None else _by_text(tree, label_glob)
    return pair_up(tree, images, labels, f"{label_glob!r}", skip_bad)


def _by_text(tree: Tree, glob: str) -> dict[str, str]:
    """{what the wildcards stand for: name}; two files for one text would make the pairing a guess."""
    found: dict[str, str] = {}
    for name, text in tree.match(glob).items():
        if text in found:
            raise UserError(f"{found[text]} and {name} both stand for {text!r}: make {glob!r} match one of them")
        found[text] = name
    return found


def load_spec(name_or_path: str) -> Spec:
    """Reads a spec file, or a shipped one by its name. Raises UserError naming the file and the key at fault."""
    path = Path(name_or_path)
    if not path.suffix and not path.exists():
        path = SHIPPED / f"{name_or_path}.yaml"
    if not path.is_file():
        shipped = sorted(file.stem for file in SHIPPED.glob("*.yaml"))
        raise UserError(f"--spec {name_or_path}: no such file; write one, or name a shipped one: {', '.join(shipped)}")
    try:
        raw = yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        raise UserError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    return _check(raw, str(path))


def _check(raw: Any, path: str) -> Spec:
    _known(
        raw,
        ("name", "classes", "palette", "ids", "colors", "ignore", "bands", "range", "splits", "labels"),
        path,
        "the spec",
    )
    for key in ("name", "classes", "splits"):
        if not raw.get(key):
            raise UserError(f"{path}: {key!r} is missing; ingest/specs/camvid.yaml is an example")
    name, classes = str(raw["name"]), raw["classes"]
    if not isinstance(classes, list) or not 1 <= len(classes) < IGNORE or len(set(map(str, classes))) < len(classes):
        raise UserError(f"{path}: 'classes' must be a list of 1 to 254 different names, not {classes!r}")
    classes = [str(one) for one in classes]
    if "/" in name or name.startswith("."):
        raise UserError(f"{path}: name {name!r} names the output folder: use letters, digits, '_' and '-'")
    return Spec(
        name,
        classes,
        _palette(raw, classes, path),
        _labels(raw, classes, path),
        _splits(raw, path),
        _bands(raw, path),
        path,
        label_spec.check(raw["labels"], classes, path) if "labels" in raw else None,
    )


def _palette(raw: dict[str, Any], classes: list[str], path: str) -> list[Color]:
    palette, count = raw.get("palette"), len(classes)
    if palette is None:
        # Black reads as "nothing": only a background in first place has it.
        return voc_palette(count) if classes[0].lower() == "background" else voc_palette(count + 1)[1:]
    if not isinstance(palette, list) or len(palette) != count:
        raise UserError(f"{path}: 'palette' must be a list of {count} colours, one a class")
    return [_color(color, path) for color in palette]


def _labels(raw: dict[str, Any], classes: list[str], path: str) -> LabelMap:
    given = raw.get("ids")
    ids: dict[int, int] = {}
    if given is None:
        ids = {index: index for index in range(len(classes))}
    elif not isinstance(given, dict):
        raise UserError(f"{path}: 'ids' must map mask values to class names, as in {{0: {classes[0]}}}")
    else:
        for value, target in given.items():
            if str(target) not in classes:
                raise UserError(f"{path}: ids: {value}: no class {target!r}{nearest(str(target), classes)}")
            ids[_value(value, path)] = classes.index(str(target))
    ignore = raw.get("ignore") or []
    for value in ignore if isinstance(ignore, list) else [ignore]:
        if _value(value, path) in ids and (given is not None or value < len(classes)):
            raise UserError(f"{path}: the value {value} is both a class and ignored: drop it from one of them")
        ids[value] = IGNORE
    return LabelMap({IGNORE: IGNORE} | ids, _colors(raw.get("colors") or {}, classes, path))


def _colors(given: Any, classes: list[str], path: str) -> dict[Color, int]:
    """`colors: {road: [[128, 64, 128], ...], ignore: [0, 0, 0]}` -> {colour: train id}."""
    if not isinstance(given, dict):
        raise UserError(f"{path}: 'colors' must map class names (and 'ignore') to mask colours")
    found: dict[Color, int] = {}
    for name, colors in given.items():
        if name != "ignore" and str(name) not in classes:
            raise UserError(f"{path}: colors: no class {name!r}{nearest(str(name), [*classes, 'ignore'])}")
        for color in colors if isinstance(colors, list) and colors and isinstance(colors[0], list) else [colors]:
            red, green, blue = _color(color, path)
            if (red, green, blue) in found:
                raise UserError(f"{path}: the colour {color} stands for two classes: drop it from one of them")
            found[red, green, blue] = IGNORE if name == "ignore" else classes.index(str(name))
    return found


def _bands(raw: dict[str, Any], path: str) -> PixelRecipe:
    """`bands: [4, 3, 2]` and `range: [low, high]`, or a range a band."""
    choice, ranges = raw.get("bands") or [], raw.get("range") or []
    if not choice and not ranges:
        return PixelRecipe()
    if not isinstance(choice, list) or not all(isinstance(band, int) and band >= 1 for band in choice):
        raise UserError(f"{path}: 'bands' must list band numbers, 1 first, not {choice!r}")
    ranges = (
        ranges if isinstance(ranges, list) and ranges and isinstance(ranges[0], list) else [ranges] if ranges else []
    )
    for pair in ranges:
        if not (isinstance(pair, list) and len(pair) == 2 and all(isinstance(v, int | float) for v in pair)):
            raise UserError(f"{path}: 'range' must be [low, high], or such a pair a band, not {pair!r}")
        if pair[0] >= pair[1]:
            raise UserError(f"{path}: range {pair}: low must be below high")
    if len(ranges) not in (0, 1, len(choice) or 3):
        raise UserError(
            f"{path}: 'range' has {len(ranges)} pairs for {len(choice) or 3} bands: give one, or one a band"
        )
    return PixelRecipe(tuple(choice), tuple((float(low), float(high)) for low, high in ranges))


def _color(color: Any, path: str) -> Color:
    if not (isinstance(color, list) and len(color) == 3 and all(isinstance(v, int) and 0 <= v <= 255 for v in color)):
        raise UserError(f"{path}: colour {color!r} must be [red, green, blue], each 0..255")
    return color[0], color[1], color[2]


def _value(value: Any, path: str) -> int:
    if not isinstance(value, int) or not 0 <= value <= 65535:
        raise UserError(f"{path}: mask value {value!r} must be a whole number, 0..65535")
    return value


def _splits(raw: dict[str, Any], path: str) -> dict[str, tuple[str, str | None]]:
    splits = raw["splits"]
    if not isinstance(splits, dict):
        raise UserError(f"{path}: 'splits' must map names to globs, as in train: {{images: a/*.jpg, labels: b/*.png}}")
    found: dict[str, tuple[str, str | None]] = {}
    for name, globs in splits.items():
        if not str(name).replace("_", "").replace("-", "").isalnum():
            raise UserError(f"{path}: split name {name!r} names files: use letters, digits, '_' and '-'")
        _known(globs, ("images", "labels"), path, f"split {name!r}")
        if "images" not in globs:
            raise UserError(f"{path}: split {name!r} has no 'images' glob")
        found[str(name)] = (str(globs["images"]), None if globs.get("labels") is None else str(globs["labels"]))
    return found


def _known(raw: Any, keys: Sequence[str], path: str, what: str) -> None:
    if not isinstance(raw, dict):
        raise UserError(f"{path}: {what} must be a mapping with the keys {', '.join(keys)}, not {raw!r}")
    for key in raw:
        if key not in keys:
            raise UserError(f"{path}: {what} has an unknown key {key!r}{nearest(str(key), keys)}")
