"""Buildings along the street: facades are drawn flat, then laid onto their walls in perspective."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from ingest.scenes.canvas import Canvas, Part, fill
from ingest.scenes.facades import Wall, facade
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

_TOWARDS_US = np.array((0.0, 0.0, -1.0))


def building(canvas: Canvas, street: Street, lot: Lot) -> None:
    """Paints one building: the end towards the camera, the roof, the wall along the street."""
    rng = np.random.Generator(np.random.Philox(key=lot.seed))
    wall = np.clip(np.array(_WALLS[rng.integers(len(_WALLS))]) * rng.uniform(0.8, 1.1) + rng.normal(0, 6, 3), 30, 235)
    roof = np.array(_ROOFS[rng.integers(len(_ROOFS))]) * rng.uniform(0.8, 1.15)
    style = "house" if lot.detached else str(rng.choice(["flats", "shops", "office"], p=[0.45, 0.35, 0.2]))
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
    if not lot.hidden_end:
        end = _Face(np.array(gable), near, near + back, lot.height, _TOWARDS_US, wall, "end")
        _wall(canvas, end, kind, rng)
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
    start, stop = (near, far) if lot.side < 0 else (far, near)
    outline = np.array([near, far, far + up, near + up])
    _wall(canvas, _Face(outline, start, stop, lot.height, towards, wall, style), kind, rng)


@dataclass(frozen=True)
class _Face:
    """One side of a building as it stands in the world. Lengths in meters."""

    outline: np.ndarray
    """(N, 3), its shape."""
    start: np.ndarray
    """(3,), where its foot begins: on the left as it is seen."""
    end: np.ndarray
    height: float
    """Up to which it has windows."""
    normal: np.ndarray
    color: np.ndarray
    style: str
    """As of `facades.Wall`."""


def _wall(canvas: Canvas, face: _Face, kind: Kind, rng: np.random.Generator) -> None:
    """Paints a textured wall."""
    camera, light = canvas.camera, canvas.light
    polygon = camera.polygon(face.outline)
    window = canvas.window([polygon]) if polygon is not None else None
    seed = int(rng.integers(1 << 31))
    if polygon is None or window is None:
        return
    left, top, right, bottom = window
    length = float(np.hypot(*(face.end - face.start)[[0, 2]]))
    depths = np.maximum(camera.to_camera(face.outline)[:, 2], 1.5)
    total = max(float(face.outline[:, 1].max()), face.height)
    scale = float(np.clip(camera.focal / np.sqrt(depths.min() * depths.max()), 0.5, 60))
    # a wall beside the lens is mostly out of the picture: no finer than the picture could show
    scale = min(scale, float(np.sqrt(5 * (right - left) * (bottom - top) / (length * total))))
    lot_rng = np.random.Generator(np.random.Philox(key=seed))
    texture = facade(lot_rng, Wall(length, total, face.height, scale, face.color, face.style, light.lamps))
    lit = light.on(np.ones(3), face.normal)
    shown = texture.shape[0] / scale
    plane = camera.plane(face.start, (face.end - face.start) / length, np.array((0.0, 1.0, 0.0)))
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
