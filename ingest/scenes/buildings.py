"""Buildings along the street: facades are drawn flat, then laid onto their walls in perspective."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np

from ingest.scenes import noise
from ingest.scenes.canvas import Canvas, Part, fill
from ingest.scenes.kinds import Kind
from ingest.scenes.street import Lot, Street

_WALLS = (
    (176, 168, 156),
    (196, 186, 166),
    (150, 148, 146),
    (126, 124, 126),
    (168, 104, 84),
    (146, 82, 68),
    (204, 176, 132),
    (214, 206, 190),
    (134, 144, 152),
    (186, 150, 132),
    (222, 216, 206),
    (118, 106, 98),
)
_ROOFS = ((134, 72, 56), (96, 74, 66), (84, 86, 92), (112, 62, 52), (104, 98, 92))


def building(canvas: Canvas, street: Street, lot: Lot) -> None:
    """Paints one building: the end towards the camera, the roof, the wall along the street."""
    rng = np.random.Generator(np.random.Philox(key=lot.seed))
    wall = np.clip(np.array(_WALLS[rng.integers(len(_WALLS))]) * rng.uniform(0.8, 1.1) + rng.normal(0, 6, 3), 30, 235)
    roof = np.array(_ROOFS[rng.integers(len(_ROOFS))]) * rng.uniform(0.8, 1.15)
    style = str(
        rng.choice(
            ["house"] if lot.detached else ["flats", "shops", "office"], p=None if lot.detached else (0.45, 0.35, 0.2)
        )
    )
    kind = Kind.HOUSE if lot.detached else Kind.BUILDING
    pitched = lot.detached or (lot.height < 14 and rng.random() < 0.4)
    ridge = lot.height + (rng.uniform(0.25, 0.42) * lot.depth if pitched else 0)
    near = np.array((lot.face + street.bend(max(lot.near, 0)), 0.0, lot.near))
    far = np.array((lot.face + street.bend(max(lot.far, 0)), 0.0, lot.far))
    back, up = np.array((lot.side * lot.depth, 0.0, 0.0)), np.array((0.0, lot.height, 0.0))
    middle = near + back / 2 + (0, ridge, 0)
    gable = [near, near + up, *([middle] if pitched else []), near + back + up, near + back]
    light = canvas.light
    towards = np.array((-lot.side, 0.0, 0.0))
    _wall(canvas, np.array(gable), near, near + back, lot.height, wall, "end", kind, np.array((0.0, 0.0, -1.0)), rng)
    if pitched:
        slope = np.stack(
            [near + up - towards * -0.3, far + up - towards * -0.3, far + back / 2 + (0, ridge, 0), middle]
        )
        polygon = canvas.camera.polygon(slope)
        tilt = np.array((-lot.side * 0.5, 0.86, 0.0))
        if polygon is not None:
            depth = max(canvas.camera.distance(lot.face, (lot.near + lot.far) / 2), 1)
            canvas.paint([Part([polygon], light.on(roof, tilt))], kind, depth, rng, 0.12)
    # seen from its back only where the camera stands behind the wall's plane, which the lots never allow
    start, end = (near, far) if lot.side < 0 else (far, near)
    face = np.array([near, far, far + up, near + up])
    _wall(canvas, face, start, end, lot.height, wall, style, kind, towards, rng)


def _wall(canvas, outline, start, end, height, colour, style, kind, normal, rng) -> None:
    """Paints a textured wall. `start` -> `end` is its foot, left to right as seen; `outline` (N, 3) its world shape."""
    camera, light = canvas.camera, canvas.light
    polygon = camera.polygon(outline)
    window = canvas.window([polygon]) if polygon is not None else None
    seed = int(rng.integers(1 << 31))
    if polygon is None or window is None:
        return
    left, top, right, bottom = window
    length = float(np.hypot(*(end - start)[[0, 2]]))
    depths = np.clip(camera.to_camera(outline)[:, 2], 1.0, None)
    scale = float(np.clip(camera.focal / np.sqrt(depths.min() * depths.max()), 0.5, 60))
    scale = min(scale, 1400 / length, 1400 / height)
    lot_rng = np.random.Generator(np.random.Philox(key=seed))
    texture = _facade(
        lot_rng, length, max(float(outline[:, 1].max()), height), height, scale, colour, style, light.lamps
    )
    lit = replace(light) and (light.ambient + light.sun * max(0.0, float(light.direction @ normal)))
    shown = texture.shape[0] / scale
    plane = camera.plane(start, (end - start) / length, np.array((0.0, 1.0, 0.0)))
    to_window = np.array([[1, 0, -left], [0, 1, -top], [0, 0, 1.0]])
    from_texture = np.array([[1 / scale, 0, 0], [0, -1 / scale, shown], [0, 0, 1.0]])
    rgb = cv2.warpPerspective(
        texture,
        to_window @ plane @ from_texture,
        (right - left, bottom - top),
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )
    alpha = np.zeros(rgb.shape[:2], np.uint8)
    fill(alpha, [np.clip(polygon - (left, top), -2e5, 2e5)])
    canvas.blend(window, rgb * lit.astype(np.float32), alpha * np.float32(1 / 255), kind, float(np.mean(depths)))


def _facade(rng, length, total, height, scale, colour, style, lamps) -> np.ndarray:
    """A flat wall (total * scale, length * scale, 3) uint8, unlit; the windows stop at `height`, gables go on above."""
    rows, columns = max(2, round(total * scale)), max(2, round(length * scale))
    stain = noise.patch("stain", rows, columns, max(scale / 8, 0.05), rng)
    grain = noise.patch("grain", rows, columns, max(scale / 20, 0.1), rng)
    rough = rng.uniform(0.02, 0.09)
    tone = 1 + rough * stain + rough * 0.6 * grain
    wall = np.clip(tone[..., None] * colour.astype(np.float32), 0, 255).astype(np.uint8)
    if style != "office" and rng.random() < 0.35 and scale > 9:  # courses of brick
        wall[:: max(2, int(scale * 0.22))] = (wall[:: max(2, int(scale * 0.22))] * 0.86).astype(np.uint8)

    def rectangle(x0: float, y0: float, x1: float, y1: float, tint: np.ndarray) -> None:
        """In metres, from the wall's foot up."""
        a, b = int(round(x0 * scale)), int(round((total - y1) * scale))
        c, d = int(round(x1 * scale)) - 1, int(round((total - y0) * scale)) - 1
        if c >= a and d >= b:
            cv2.rectangle(wall, (a, b), (c, d), np.clip(tint, 0, 255).tolist(), cv2.FILLED)

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
    looks = rng.random((floors, bays, 3))
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
        for column in range(bays):
            blank, bright, curtain = looks[number, column]
            if blank < (0.72 if style == "end" else 0.05):
                continue
            x0, y0 = (column + 0.5 - wide / 2) * bay, base + sill * floor
            x1, y1 = x0 + wide * bay, y0 + tall * floor
            edge = 0.09
            rectangle(x0 - edge, y0 - edge, x1 + edge, y1 + edge, frame)
            pane = glass * (0.75 + 0.6 * bright)
            if lamps and bright > 0.55:
                pane = np.array((250, 206, 128)) * (0.9 + 0.4 * curtain)
            rectangle(x0, y0, x1, y1, pane)
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
    return np.clip(wall * shade, 0, 255).astype(np.uint8)


def _shops(rectangle, rng: np.random.Generator, length: float, floor: float, lamps: bool) -> None:
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
