"""The picture and its labels, painted together from far to near: one coverage mask decides both."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import cv2
import numpy as np

from ingest.scenes import noise
from ingest.scenes.camera import Camera
from ingest.scenes.kinds import Kind
from ingest.scenes.light import Light

_SHIFT = 4  # fractional bits of OpenCV's polygon corners
_TURN = np.linspace(0, 2 * np.pi, 24, endpoint=False)
CIRCLE = np.stack([np.cos(_TURN), np.sin(_TURN)], axis=1)
_HALF = np.linspace(-np.pi / 2, np.pi / 2, 7)
_CAPS = np.stack([np.concatenate([np.cos(_HALF), -np.cos(_HALF)]), np.concatenate([np.sin(_HALF), -np.sin(_HALF)])], 1)


@dataclass(frozen=True)
class Part:
    """One flat-colored piece of a thing, in pixels. Overlapping contours cut holes (even-odd)."""

    contours: list[np.ndarray]  # each (N, 2)
    color: np.ndarray  # (3,) RGB 0..255, lit
    solid: bool = True  # False: a detail painted onto the solid parts, which the outline does not follow


@dataclass
class Canvas:
    """`rgb` (H, W, 3) float32 0..255, `kinds` (H, W) uint8, `things` (H, W) uint16: 0 where no countable thing is."""

    camera: Camera
    light: Light
    rgb: np.ndarray = field(init=False)
    kinds: np.ndarray = field(init=False)
    things: np.ndarray = field(init=False)
    _count: int = 0

    def __post_init__(self) -> None:
        shape = (self.camera.height, self.camera.width)
        self.rgb = np.zeros((*shape, 3), np.float32)
        self.kinds = np.full(shape, Kind.SKY, np.uint8)
        self.things = np.zeros(shape, np.uint16)

    def window(self, contours: list[np.ndarray], margin: int = 1) -> tuple[int, int, int, int] | None:
        """The part of the picture that contours can touch: left, top, right, bottom; None when outside or too small."""
        corners = contours[0] if len(contours) == 1 else np.concatenate(contours)
        (x0, y0), (x1, y1) = corners.min(0).tolist(), corners.max(0).tolist()
        if max(x1 - x0, y1 - y0) < 0.7:
            return None
        left, top = max(0, math.floor(x0) - margin), max(0, math.floor(y0) - margin)
        right = min(self.camera.width, math.ceil(x1) + margin + 1)
        bottom = min(self.camera.height, math.ceil(y1) + margin + 1)
        return (left, top, right, bottom) if right > left and bottom > top else None

    def paint(self, parts: list[Part], kind: Kind, depth: float, rng: np.random.Generator, grain: float = 0.05) -> None:
        """Paints one thing over what is there: a pixel is the thing's where its solid parts cover half of it."""
        solid = [contour for part in parts if part.solid for contour in part.contours]
        window = self.window(solid) if solid else None
        if window is None:
            return
        left, top, right, bottom = window
        rgb = np.empty((bottom - top, right - left, 3), np.uint8)
        rgb[:] = ink(next(part.color for part in parts if part.solid))
        alpha = np.zeros(rgb.shape[:2], np.uint8)
        for part in parts:
            corners = fixed(part.contours, left, top)
            cv2.fillPoly(rgb, corners, ink(part.color), cv2.LINE_AA, _SHIFT)
            if part.solid:
                cv2.fillPoly(alpha, corners, 255, cv2.LINE_AA, _SHIFT)
        high, wide = bottom - top, right - left
        textured: np.ndarray = rgb
        if high * wide > 80:
            texture = 1 + np.float32(grain) * noise.patch("stain", high, wide, 1 + high // 200, rng)
            textured = rgb * texture[..., None]
        self.blend(window, textured, alpha * np.float32(1 / 255), kind, depth)

    def blend(
        self, window: tuple[int, int, int, int], rgb: np.ndarray, alpha: np.ndarray, kind: Kind, depth: float
    ) -> None:
        """Lays rgb (h, w, 3) over the window by alpha (h, w) 0..1, seen through `depth` meters of haze."""
        left, top, right, bottom = window
        veil = np.float32(self.light.veil(depth))
        rgb = rgb * (1 - veil) + (self.light.horizon * veil).astype(np.float32)
        here = self.rgb[top:bottom, left:right]
        here += (rgb - here) * alpha[..., None]
        mine = alpha >= 0.5
        self._count += 1
        self.kinds[top:bottom, left:right][mine] = kind
        self.things[top:bottom, left:right][mine] = self._count


def ink(color: np.ndarray) -> list[float]:
    """A color as OpenCV takes it. Plain Python: np.clip costs ten times as much on three numbers."""
    return [min(255.0, max(0.0, value)) for value in color.tolist()]


def fixed(contours: list[np.ndarray], left: int = 0, top: int = 0) -> list[np.ndarray]:
    """Contours in OpenCV's fixed point, relative to a window."""
    corner, unit = np.array((left, top)), 1 << _SHIFT
    return [((contour - corner) * unit + 0.5).astype(np.int32) for contour in contours]


def fill(mask: np.ndarray, contours: list[np.ndarray], value: float = 255) -> None:
    """Fills a uint8 mask, anti-aliased."""
    cv2.fillPoly(mask, fixed(contours), value, cv2.LINE_AA, _SHIFT)


def disc(x: float, y: float, rx: float, ry: float | None = None) -> np.ndarray:
    """An ellipse's outline (24, 2)."""
    return CIRCLE * (rx, rx if ry is None else ry) + (x, y)


def limb(start: tuple[float, float], end: tuple[float, float], r0: float, r1: float) -> np.ndarray:
    """A tapering rod with round ends, (14, 2)."""
    angle = math.atan2(end[1] - start[1], end[0] - start[0])
    sin, cos = math.sin(angle), math.cos(angle)
    ring = _CAPS @ np.array([[cos, sin], [-sin, cos]])
    ring[:7] = ring[:7] * r1 + end
    ring[7:] = ring[7:] * r0 + start
    return ring


def box(x0: float, y0: float, x1: float, y1: float) -> np.ndarray:
    """An upright rectangle (4, 2)."""
    return np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], np.float64)


class Billboard:
    """Collects the parts of something drawn flat, facing the camera: x meters right, y meters up from (X, Z)."""

    def __init__(self, camera: Camera, x: float, z: float, mirror: bool = False) -> None:
        self.depth = camera.distance(x, z)
        self.parts: list[Part] = []
        self.visible = self.depth > 1.2 and camera.sees(x, z, 5.0)
        if self.visible:
            foot = camera.to_pixels(camera.to_camera(np.array([[x, 0.0, z]])))[0]
            self._foot, self._scale = foot, camera.focal / self.depth
            self._flip = -1.0 if mirror else 1.0

    @property
    def scale(self) -> float:
        """Pixels a meter."""
        return self._scale

    def to_pixels(self, points: np.ndarray) -> np.ndarray:
        return self._foot + points * (self._scale * self._flip, -self._scale)

    def add(self, color: np.ndarray, *contours: np.ndarray, solid: bool = True) -> None:
        self.parts.append(Part([self.to_pixels(contour) for contour in contours], np.asarray(color), solid))
