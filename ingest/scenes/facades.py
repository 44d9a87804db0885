"""Walls with windows, doors and shops, drawn flat; `buildings` lays them into the picture in perspective."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from ingest.scenes import noise
from ingest.scenes.canvas import ink

_GLASS = ((58, 66, 78), (74, 88, 104), (48, 50, 54), (96, 112, 128))
_SHUTTERS = ((70, 92, 72), (120, 70, 56), (90, 98, 116))
_DOORS = ((96, 60, 40), (58, 78, 66), (70, 74, 92), (120, 40, 40))
_FRAME = 0.09  # meters of a window's frame


@dataclass(frozen=True)
class Wall:
    """What a wall is asked to be. Lengths in meters."""

    length: float
    total: float
    """Up to the ridge of its gable."""
    height: float
    """Up to which it has windows."""
    scale: float
    """Pixels a meter."""
    color: np.ndarray
    style: str
    """flats, shops, office, house, or end: a side wall with few windows."""
    lamps: bool
    """Some windows are lit."""

    @property
    def fine(self) -> bool:
        """Large enough for frames and reflections to show."""
        return self.scale > 6


@dataclass(frozen=True)
class _Windows:
    """How a wall's windows are divided and what they look like."""

    floors: int
    bays: int
    floor: float
    bay: float
    frame: np.ndarray
    glass: np.ndarray
    wide: float
    """Share of a bay, as `tall` and `sill` are of a floor."""
    tall: float
    sill: float


def facade(rng: np.random.Generator, wall: Wall) -> np.ndarray:
    """A flat wall (total * scale, length * scale, 3) uint8, unlit."""
    pixels = _plaster(rng, wall)
    paint = _painter(pixels, wall)
    windows = _divide(rng, wall)
    _fill(rng, wall, windows, paint)
    if wall.style == "shops":
        _shops(paint, rng, wall.length, windows.floor, wall.lamps)
    elif wall.style != "end":
        door = rng.integers(windows.bays)
        x0 = (door + 0.5) * windows.bay - 0.55
        paint(x0 - 0.12, 0, x0 + 1.22, 2.3, windows.frame * 0.9)
        paint(x0, 0, x0 + 1.1, 2.15, np.array(_DOORS[rng.integers(4)]))
    paint(0, wall.height - 0.35, wall.length, wall.height, wall.color * 1.12)
    paint(0, 0, wall.length, 0.5, wall.color * 0.72)
    shade = np.linspace(1.06, 0.9, len(pixels), dtype=np.float32)[:, None, None]  # the street's dust and lost light
    return np.minimum(pixels * shade, 255).astype(np.uint8)


def _plaster(rng: np.random.Generator, wall: Wall) -> np.ndarray:
    """The bare wall: stains, grain, courses of brick."""
    rows, columns = max(2, round(wall.total * wall.scale)), max(2, round(wall.length * wall.scale))
    rough = rng.uniform(0.02, 0.09)
    tone = 1 + np.float32(rough) * noise.patch("stain", rows, columns, max(wall.scale / 8, 0.05), rng)
    if wall.fine:
        tone += np.float32(rough * 0.6) * noise.patch("grain", rows, columns, wall.scale / 20, rng)
    pixels = np.minimum(tone[..., None] * wall.color.astype(np.float32), 255).astype(np.uint8)
    if wall.style != "office" and rng.random() < 0.35 and wall.scale > 9:
        courses = slice(None, None, max(2, int(wall.scale * 0.22)))
        pixels[courses] = (pixels[courses] * 0.86).astype(np.uint8)
    return pixels


def _painter(pixels: np.ndarray, wall: Wall) -> Callable[..., None]:
    """What paints a rectangle of a color, in meters from the wall's foot up."""

    def rectangle(x0: float, y0: float, x1: float, y1: float, tint: np.ndarray) -> None:
        a, b = int(x0 * wall.scale + 0.5), int((wall.total - y1) * wall.scale + 0.5)
        c, d = int(x1 * wall.scale + 0.5) - 1, int((wall.total - y0) * wall.scale + 0.5) - 1
        if c >= a and d >= b:
            cv2.rectangle(pixels, (a, b), (c, d), ink(tint), cv2.FILLED)

    return rectangle


def _divide(rng: np.random.Generator, wall: Wall) -> _Windows:
    floor = rng.uniform(2.7, 3.5)
    floors = max(1, int(wall.height / floor))
    bay = rng.uniform(1.5, 3.4) if wall.style != "house" else rng.uniform(2.2, 3.6)
    bays = max(1, int(wall.length / bay))
    frame = wall.color * 0.6 + 90 if rng.random() < 0.6 else wall.color * 0.5
    glass = np.array(_GLASS[rng.integers(4)])
    wide, tall, sill = rng.uniform(0.3, 0.62), rng.uniform(0.42, 0.66), rng.uniform(0.2, 0.3)
    if wall.style == "office":
        wide, tall, sill, glass = rng.uniform(0.8, 0.95), rng.uniform(0.55, 0.9), 0.06, glass + rng.uniform(0, 40)
    return _Windows(floors, bays, wall.height / floors, wall.length / bays, frame, glass, wide, tall, sill)


def _fill(rng: np.random.Generator, wall: Wall, windows: _Windows, paint: Callable[..., None]) -> None:
    """Paints the windows, floor by floor."""
    looks = rng.random((windows.floors, windows.bays, 3)).tolist()
    ledge = rng.random() < 0.5
    shuttered = wall.style in ("flats", "house") and rng.random() < 0.35
    shutters = np.array(_SHUTTERS[rng.integers(3)])
    for number in range(windows.floors):
        base = number * windows.floor
        if ledge and number:
            paint(0, base - 0.12, wall.length, base + 0.1, wall.color * 1.16)
        if wall.style == "shops" and number == 0:
            continue
        low = base + windows.sill * windows.floor
        high = low + windows.tall * windows.floor
        if wall.scale < 1.6:  # too far for single windows: one band a floor
            if wall.style != "end":
                band = windows.glass * windows.wide + wall.color * (1 - windows.wide)
                paint(0.4, low, wall.length - 0.4, high, band)
            continue
        for column, look in enumerate(looks[number]):
            if look[0] < (0.72 if wall.style == "end" else 0.05):
                continue
            x0 = (column + 0.5 - windows.wide / 2) * windows.bay
            x1 = x0 + windows.wide * windows.bay
            _window(wall, windows, paint, (x0, low, x1, high), look)
            if shuttered:
                paint(x0 - 0.4, low, x0 - _FRAME, high, shutters)
                paint(x1 + _FRAME, low, x1 + 0.4, high, shutters)


def _window(
    wall: Wall,
    windows: _Windows,
    paint: Callable[..., None],
    at: tuple[float, float, float, float],
    look: Sequence[float],
) -> None:
    """One window. at: x0, y0, x1, y1. look: blank, bright, curtain, each in 0..1."""
    (x0, y0, x1, y1), (_, bright, curtain) = at, look
    if wall.fine:
        paint(x0 - _FRAME, y0 - _FRAME, x1 + _FRAME, y1 + _FRAME, windows.frame)
    pane = windows.glass * (0.75 + 0.6 * bright)
    if wall.lamps and bright > 0.55:
        pane = np.array((250, 206, 128)) * (0.9 + 0.4 * curtain)
    paint(x0, y0, x1, y1, pane)
    if wall.fine:
        paint(x0, y0 + (y1 - y0) * 0.55, x1, y1, pane * 1.22 + 8)  # the sky mirrored in the upper half
    if curtain < 0.25:
        cloth = np.array((206, 200, 188)) * (0.7 + bright * 0.3)
        paint(x0, y0, x1, y1 - (y1 - y0) * (0.2 + 2 * curtain), cloth)
    if wall.scale > 7 and wall.style != "office":
        paint((x0 + x1) / 2 - 0.04, y0, (x0 + x1) / 2 + 0.04, y1, windows.frame)


def _shops(rectangle: Callable[..., None], rng: np.random.Generator, length: float, floor: float, lamps: bool) -> None:
    """A row of shop fronts: sign band, awning, wide panes, door."""
    x = 0.0
    while x < length - 1:
        end = min(length, x + rng.uniform(4, 8))
        sign = rng.uniform(30, 225, 3)
        inside = np.array((232, 206, 150)) if lamps else np.array((70, 74, 78)) * rng.uniform(0.7, 1.6)
        rectangle(x + 0.1, 0, end - 0.1, floor, sign * 0.45 + 20)
        rectangle(x + 0.3, 0.5, end - 1.5, floor * 0.72, inside)
        rectangle(end - 1.3, 0.05, end - 0.4, floor * 0.7, inside * 0.8)
        for _ in range(4):  # goods behind the glass
            at = rng.uniform(x + 0.4, max(x + 0.5, end - 2))
            rectangle(at, 0.55, at + rng.uniform(0.2, 0.6), rng.uniform(0.9, 1.7), rng.uniform(40, 220, 3))
        rectangle(x + 0.1, floor * 0.76, end - 0.1, floor * 0.95, sign)
        rectangle(x + (end - x) * 0.25, floor * 0.82, x + (end - x) * 0.75, floor * 0.89, 255 - sign)
        if rng.random() < 0.4:
            stripes = int((end - x) / 0.5)
            for number in range(stripes):
                rectangle(
                    x + number * 0.5,
                    floor * 0.62,
                    x + number * 0.5 + 0.5,
                    floor * 0.78,
                    sign if number % 2 else np.array((235, 230, 220)),
                )
        x = end
