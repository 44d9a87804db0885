"""Reads a run folder for its report. What is missing or damaged is left out and noted, so that any run gives a page."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from ingest.errors import UserError

Points = dict[int, float | None]  # step -> value; None: not finite
IMAGES = "extremes"  # folder of the best and worst images (train/extremes.py; not imported: it would load torch)
# What comes of a file that a hand, a disk or a kill has changed; a thousand brackets are a RecursionError.
_DAMAGE = (
    OSError,
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    OverflowError,
    RecursionError,
    yaml.YAMLError,
)


@dataclass
class RunRecord:
    """All that a report shows of a run."""

    folder: Path
    recipe: str = ""
    """config.yaml as it stands."""
    config: dict[str, Any] = field(default_factory=dict)
    curves: dict[str, dict[str, Points]] = field(default_factory=lambda: {"train": {}, "lr": {}, "val": {}})
    """Per kind of log line and name, its curve."""
    events: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0
    """Wall time of all sessions together, those steps included that a kill threw away."""
    validation: dict[str, Any] = field(default_factory=dict)
    """validation.json; its `confusion` is square and as large as its `iou`, or absent."""
    images: list[dict[str, Any]] = field(default_factory=list)
    """Of extremes.json."""
    palette: dict[str, tuple[int, int, int]] = field(default_factory=dict)
    """Class name -> RGB."""
    notes: list[str] = field(default_factory=list)

    @property
    def starts(self) -> list[dict[str, Any]]:
        """The sessions' first lines: where each began, and its environment."""
        return [event for event in self.events if event.get("what") == "start"]

    @property
    def last_step(self) -> int:
        """The last step that anything is known of."""
        steps = [max(points) for named in self.curves.values() for points in named.values() if points]
        return max([0, *steps, *(int(event["step"]) for event in self.events)])

    def curve(self, kind: str, name: str) -> Points:
        """One curve, empty where there is none."""
        return self.curves[kind].get(name, {})


def read(folder: Path) -> RunRecord:
    """UserError when the folder is no run folder: it has neither config.yaml nor log.jsonl."""
    if folder.is_file():
        raise UserError(f"{folder} is a file: give its run folder, such as saved/<name>/<time>")
    if not folder.is_dir():
        raise UserError(f"run folder {folder} does not exist: give one such as saved/<name>/<time>")
    if not any((folder / name).is_file() for name in ("config.yaml", "log.jsonl")):
        raise UserError(f"{folder} is no run folder, it has no config.yaml and no log.jsonl: give saved/<name>/<time>")
    run = RunRecord(folder)
    for name, take in (
        ("config.yaml", _take_config),
        ("log.jsonl", _take_log),
        ("validation.json", _take_validation),
        (f"{IMAGES}/extremes.json", _take_images),
    ):
        _guarded(run, folder / name, take)
    if not run.palette and isinstance(data := run.config.get("data"), dict):
        _guarded(run, Path(str(data.get("path", ""))) / "dataset.json", _take_palette)
    return run


def read_images(run: RunRecord) -> None:
    """Takes up the folder's best and worst images, where it has them."""
    _guarded(run, run.folder / IMAGES / "extremes.json", _take_images)


def _guarded(run: RunRecord, path: Path, take: Callable[[RunRecord, str], None]) -> None:
    try:
        take(run, path.read_text(encoding="utf-8", errors="replace"))
    except (FileNotFoundError, NotADirectoryError):
        pass
    except _DAMAGE as error:
        run.notes.append(f"{path.name} could not be read ({type(error).__name__}: {error}) and is left out.")


def _take_config(run: RunRecord, text: str) -> None:
    run.recipe = text
    config = yaml.safe_load(text)
    run.config = config if isinstance(config, dict) else {}


def _take_log(run: RunRecord, text: str) -> None:
    """A resumed run starts from its checkpoint: what an earlier session did after that step never happened."""
    damaged, first, last = 0, math.nan, math.nan
    for line in text.splitlines():
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
            kind, step, time = str(entry["kind"]), int(entry["step"]), float(entry["time"])
        except _DAMAGE:  # a kill cuts the last line short
            damaged += 1
            continue
        if kind == "event":
            if entry.get("what") == "start":
                _forget_after(run, step)
                run.seconds += max(0.0, last - first) if last > first else 0.0
                first = time
            run.events.append({**entry, "step": step, "time": time})
        elif kind in run.curves:
            for name, value in entry.items():
                number = value is None or (isinstance(value, (int, float)) and not isinstance(value, bool))
                if name not in ("kind", "step", "time") and number:
                    finite = value is not None and math.isfinite(value)
                    run.curves[kind].setdefault(name, {})[step] = float(value) if finite else None
        first, last = (time if math.isnan(first) else first), time
    run.seconds += last - first if last > first else 0.0
    for named in run.curves.values():
        for name, points in named.items():
            named[name] = dict(sorted(points.items()))
    if damaged:
        run.notes.append(f"{damaged} damaged line{'s' * (damaged > 1)} of log.jsonl left out.")


def _forget_after(run: RunRecord, step: int) -> None:
    for named in run.curves.values():
        for points in named.values():
            for later in [known for known in points if known > step]:
                del points[later]
    run.events = [event for event in run.events if event["step"] <= step]


def _take_validation(run: RunRecord, text: str) -> None:
    found = json.loads(text)
    iou, matrix = found["iou"], found.get("confusion")
    found["iou"] = {str(name): _finite(value) for name, value in iou.items()}
    for name in ("miou", "pixel_accuracy", "mean_class_accuracy", "loss"):
        found[name] = _finite(found.get(name))
    found["dice"] = {str(name): _finite(value) for name, value in (found.get("dice") or {}).items()}
    found["mean_dice"] = _finite(found.get("mean_dice"))
    found.pop("boundary", None)  # a run's own validations score no outlines
    fits = matrix is None or all(len(row) == len(iou) for row in [matrix, *matrix])
    if matrix is not None and not (fits and all(0 <= count < 2**53 for row in matrix for count in row)):
        run.notes.append("validation.json's confusion matrix does not fit its classes and is left out.")
        matrix = None
    found["confusion"] = matrix and [[int(count) for count in row] for row in matrix]
    run.validation = found


def _take_images(run: RunRecord, text: str) -> None:
    found = json.loads(text)
    _set_palette(run, found)
    run.images = [_image(entry) for entry in found["images"]]


def _image(entry: dict[str, Any]) -> dict[str, Any]:
    iou = {str(name): float(value) for name, value in entry.get("iou", {}).items()}
    texts = {key: str(entry[key]) for key in ("key", "kind", "picture")}
    return {**texts, "columns": entry["columns"], "miou": float(entry["miou"]), "iou": iou}


def _take_palette(run: RunRecord, text: str) -> None:
    _set_palette(run, json.loads(text))


def _set_palette(run: RunRecord, facts: dict[str, Any]) -> None:
    for name, (red, green, blue) in zip(facts["classes"], facts["palette"], strict=True):
        run.palette[str(name)] = (int(red), int(green), int(blue))


def _finite(value: Any) -> float | None:
    return float(value) if isinstance(value, (int, float)) and math.isfinite(value) else None
