"""Walls with windows, doors and shops, drawn flat; `buildings` lays them into the picture in perspective."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from ingest.scenes import noise
from ingest.scenes.canvas import ink


def facade(
    rng: np.random.Generator,
    length: float,
    total: float,
    height: float,
    scale: float,
    colour: np.ndarray,
    style: str,
    lamps: bool,
) -> np.ndarray:
    """A flat wall (total * scale, length * scale, 3) uint8, unlit. Lengths in metres, `scale` in pixels a metre.

    The windows stop at `height`, a gable goes on to `total`. `style` is flats, shops, office, house, or end: a side
    wall with few windows. `lamps`: some windows are lit.
    """
    rows, columns = max(2, round(total * scale)), max(2, round(length * scale))
    rough, fine = rng.uniform(0.02, 0.09), scale > 6
    tone = 1 + np.float32(rough) * noise.patch("stain", rows, columns, max(scale / 8, 0.05), rng)
    if fine:
        tone += np.float32(rough * 0.6) * noise.patch("grain", rows, columns, scale / 20, rng)
    wall = np.minimum(tone[..., None] * colour.astype(np.float32), 255).astype(np.uint8)
    if style != "office" and rng.random() < 0.35 and scale > 9:  # courses of brick
        wall[:: max(2, int(scale * 0.22))] = (wall[:: max(2, int(scale * 0.22))] * 0.86).astype(np.uint8)

    def rectangle(x0: float, y0: float, x1: float, y1: float, tint: np.ndarray) -> None:
        """In metres, from the wall's foot up."""
        a, b = int(x0 * scale + 0.5), int((total - y1) * scale + 0.5)
        c, d = int(x1 * scale + 0.5) - 1, int((total - y0) * scale + 0.5) - 1
        if c >= a and d >= b:
            cv2.rectangle(wall, (a, b), (c, d), ink(tint), cv2.FILLED)

    floor = rng.uniform(2.7, 3.5)
    floors = max(1, int(height / floor))
    bay = rng.uniform(1.5, 3.4) if style != "house" else rng.uniform(2.2, 3.6)
    bays = max(1, int(length / bay))
    bay, floor = length / bays, height / floors
    frame = colour * 0.6 + 90 if rng.random() < 0.6 else colour * 0.5
    glass = np.array(((58, 66, 78), (74, 88, 104), (48, 50, 54), (96, 112, 128))[rng.integers(4)])
    wide, tall, sill = rng.uniform(0.3, 0.62), rng.uniform(0.42, 0.66), rng.uniform(0.2, 0.3)
    if style == "office":
        wide, tall, sill, glass = rng.uniform(0.8, 0.95), rng.uniform(0.55, 0.9), 0.06, glass + rng.uniform(0, 40)
    looks = rng.random((floors, bays, 3)).tolist()
    ledge = rng.random() < 0.5
    shop = style == "shops"
    shutters = style in ("flats", "house") and rng.random() < 0.35
    shutter_colour = np.array(((70, 92, 72), (120, 70, 56), (90, 98, 116))[rng.integers(3)])
    for number in range(floors):
        base = number * floor
        if ledge and number:
            rectangle(0, base - 0.12, length, base + 0.1, colour * 1.16)
        if shop and number == 0:
            continue
        if scale < 1.6:  # too far for single windows: one band a floor
            if style != "end":
                low = base + sill * floor
                rectangle(0.4, low, length - 0.4, low + tall * floor, glass * wide + colour * (1 - wide))
            continue
        for column in range(bays):
            blank, bright, curtain = looks[number][column]
            if blank < (0.72 if style == "end" else 0.05):
                continue
            x0, y0 = (column + 0.5 - wide / 2) * bay, base + sill * floor
            x1, y1 = x0 + wide * bay, y0 + tall * floor
            edge = 0.09
            if fine:
                rectangle(x0 - edge, y0 - edge, x1 + edge, y1 + edge, frame)
            pane = glass * (0.75 + 0.6 * bright)
            if lamps and bright > 0.55:
                pane = np.array((250, 206, 128)) * (0.9 + 0.4 * curtain)
            rectangle(x0, y0, x1, y1, pane)
            if fine:
                rectangle(x0, y0 + (y1 - y0) * 0.55, x1, y1, pane * 1.22 + 8)  # the sky mirrored in the upper half
            if curtain < 0.25:
                rectangle(
                    x0, y0, x1, y1 - (y1 - y0) * (0.2 + 2 * curtain), np.array((206, 200, 188)) * (0.7 + bright * 0.3)
                )
            if scale > 7 and style != "office":
                rectangle((x0 + x1) / 2 - 0.04, y0, (x0 + x1) / 2 + 0.04, y1, frame)
            if shutters:
                rectangle(x0 - 0.4, y0, x0 - edge, y1, shutter_colour)
                rectangle(x1 + edge, y0, x1 + 0.4, y1, shutter_colour)
    if shop:
        _shops(rectangle, rng, length, floor, lamps)
    elif style != "end":
        door = rng.integers(bays)
        x0 = (door + 0.5) * bay - 0.55
        rectangle(x0 - 0.12, 0, x0 + 1.22, 2.3, frame * 0.9)
        rectangle(
            x0, 0, x0 + 1.1, 2.15, np.array(((96, 60, 40), (58, 78, 66), (70, 74, 92), (120, 40, 40))[rng.integers(4)])
        )
    rectangle(0, height - 0.35, length, height, colour * 1.12)
    rectangle(0, 0, length, 0.5, colour * 0.72)
    shade = np.linspace(1.06, 0.9, rows, dtype=np.float32)[:, None, None]  # the street's dust and lost light
    return np.minimum(wall * shade, 255).astype(np.uint8)


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
