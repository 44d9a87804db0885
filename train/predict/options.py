"""The options that `train.evaluate` and `train.predict` share: how images become scores."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from ingest.errors import UserError

_HIGHEST_SCALE = 4.0


class Size(click.ParamType):
    """HEIGHTxWIDTH in pixels, or one number for both -> (height, width)."""

    name = "HxW"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        if isinstance(value, tuple):
            return value
        match = re.fullmatch(r"(\d{1,6})(?:x(\d{1,6}))?", str(value))
        size = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
        if min(size) < 1:
            option = param.opts[0] if param else "size"
            raise UserError(f"{option} {value!r}: expected HEIGHTxWIDTH in pixels, such as 512x1024")
        return size


class Scales(click.ParamType):
    """Numbers with commas between -> a tuple of floats."""

    name = "S,S..."

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[float, ...]:
        if isinstance(value, tuple):
            return value
        try:
            scales = tuple(float(part) for part in str(value).split(","))
        except ValueError:
            scales = ()
        if not scales or not all(0.1 <= scale <= _HIGHEST_SCALE for scale in scales):
            raise UserError(f"--scales {value!r}: expected numbers from 0.1 to {_HIGHEST_SCALE:g}, such as 0.75,1,1.25")
        return scales


@dataclass(frozen=True)
class Asked:
    """What was given on the command line."""

    mode: str | None
    window: tuple[int, int] | None
    stride: tuple[int, int] | None
    scales: tuple[float, ...]
    flip: bool
    amp: str | None


@dataclass(frozen=True)
class Order:
    """What `train.predict` is asked to do."""

    path: str
    """The checkpoint."""
    images: tuple[str, ...]
    """Of --images."""
    more: tuple[str, ...]
    """Further ones: what a shell makes of a pattern without quotes."""
    split: str | None
    out: Path
    ids: str
    """train | raw: the values of masks."""
    overlay: float
    probabilities: bool
    polygons: str | None
    """geojson | coco."""
    device: str
    how: Asked

    @property
    def extras(self) -> tuple[bool, str | None, str]:
        """Whether probabilities are written, which form of outlines, which ids."""
        return self.probabilities, self.polygons, self.ids


def inference_options(modes: list[str], default: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Gives a command --mode, --window, --stride, --scales, --flip and --amp, bundled into its argument `how`."""
    whole = " auto: whole, but windows for images too large for that." if "auto" in modes else ""
    options = [
        click.option(
            "--mode",
            type=click.Choice(modes),
            help=f"Images whole, or in overlapping windows.{whole}  [default: {default}; sliding with --window]",
        ),
        click.option("--window", type=Size(), help="Size of a window.  [default: the crop it was trained on]"),
        click.option("--stride", type=Size(), help="From window to window.  [default: two thirds of a window]"),
        click.option(
            "--scales", type=Scales(), default="1", show_default=True, help="Average over these sizes of the image."
        ),
        click.option("--flip", is_flag=True, help="Average with the mirror image."),
        click.option(
            "--amp",
            type=click.Choice(["auto", "bf16", "fp16", "off"]),
            help="Autocast.  [default: as trained; off on a CPU]",
        ),
    ]

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(command)
        def bundled(
            *args: Any,
            mode: str | None,
            window: tuple[int, int] | None,
            stride: tuple[int, int] | None,
            scales: tuple[float, ...],
            flip: bool,
            amp: str | None,
            **others: Any,
        ) -> Any:
            return command(*args, how=Asked(mode, window, stride, scales, flip, amp), **others)

        for option in reversed(options):
            bundled = option(bundled)
        return bundled

    return decorate
