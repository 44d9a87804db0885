"""The loaders that `bench.loader` compares.

All read the same shard folder and make the same augmentations (scale, rotation, crop, flip, blur) at the same crop.
Each is a function of a `Setting` that yields the size of one batch after another, for ever. A row's libraries are
imported when it runs, in its own process, so that memory and start-up are its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from bench.data.setting import Setting


@dataclass(frozen=True)
class Row:
    """A loader to measure."""

    title: str
    module: str
    function: str
    package: str | None = None
    """What must be installed for it, besides segrail's own dependencies."""
    rgb_only: bool = False
    """Whether it reads image files alone, not the arrays that hold other numbers of channels."""
    gpu_only: bool = False
    """Whether it says something only where batches end up on a GPU."""
    augment: dict[str, Any] | None = None
    """What it changes in the augmentations."""


_NOTHING = {"scale": (1.0, 1.0), "rotate": 0.0, "flip": 0.0, "blur": 0.0}
# Newer ones, off unless a recipe has them on; colors as mmsegmentation's recipes change them.
_MORE = {
    "colors": {"brightness": 0.125, "contrast": 0.5, "saturation": 0.5, "hue": 36.0},
    "turns": {"quarter_turns": 0.75, "vertical_flip": 0.5},
    "erasing": {"erase": 0.5},
}
_HERE = "bench.loaders"

ROWS: dict[str, Row] = {
    "read": Row("read only: the files' bytes", f"{_HERE}.limits", "read"),
    "decode": Row("DALI decode only (the limit)", f"{_HERE}.limits", "decode"),
    "ours": Row("segrail", f"{_HERE}.segrail", "ours"),
    "ours-cpu": Row("segrail by the CPU, copied to the GPU", f"{_HERE}.segrail", "ours_by_cpu", gpu_only=True),
    "dali": Row("DALI's reader and operators", f"{_HERE}.dali_chain", "dali", rgb_only=True),
    "opencv": Row("torch DataLoader + OpenCV, step by step", f"{_HERE}.stepwise", "opencv", rgb_only=True),
    "torchvision": Row(
        "webdataset + torchvision v2", f"{_HERE}.torchvision_v2", "torchvision", package="webdataset", rgb_only=True
    ),
    "albumentations": Row(
        "torch DataLoader + albumentations",
        f"{_HERE}.albumentations_chain",
        "albumentations",
        package="albumentations",
        rgb_only=True,
    ),
    "decoded": Row("torchvision v2 on decoded pixels", f"{_HERE}.decoded", "decoded", rgb_only=True),
    **{
        f"ours-no-{part}": Row(f"segrail, no {part}", f"{_HERE}.segrail", "ours", augment={part: neutral})
        for part, neutral in _NOTHING.items()
    },
    **{
        f"ours-with-{part}": Row(f"segrail, with {part}", f"{_HERE}.segrail", "ours", augment=keys)
        for part, keys in _MORE.items()
    },
    "ours-no-augment": Row("segrail, only the crop", f"{_HERE}.segrail", "ours", augment=_NOTHING),
    # what the other rows do: four source pixels to one of the crop, however small an image is made
    "ours-no-antialias": Row("segrail, no antialias", f"{_HERE}.segrail", "ours", augment={"antialias": False}),
}
DEFAULT = ("read", "decode", "ours", "dali", "opencv", "torchvision")


def start(name: str, setting: Setting) -> Iterator[int]:
    """The row's batches, their sizes, for ever. Nothing is imported or started before the first is asked for."""
    row = ROWS[name]
    if row.augment:
        setting = replace(setting, augment=replace(setting.augment, **row.augment))
    run: Callable[[Setting], Iterator[int]] = getattr(import_module(row.module), row.function)
    return run(setting)


def obstacle(name: str, channels: int, device: str = "cpu") -> str | None:
    """Why this row cannot run here on images of so many channels, for that device (cpu | gpu); None: it can."""
    row = ROWS[name]
    if row.gpu_only and device != "gpu":
        return "it needs --device gpu"
    if row.package and find_spec(row.package) is None:
        return f"{row.package} is not installed (pip install {row.package})"
    if row.rgb_only and channels != 3:
        return f"it reads image files of 3 channels, this dataset has {channels}"
    return None
