"""What vehicles are put together from: a pose on the street, a side profile extruded to its width, wheels, lamps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ingest.scenes.canvas import Canvas, Part
from ingest.scenes.light import Light

_TURN = np.linspace(0, 2 * np.pi, 20, endpoint=False)

Profile = tuple[tuple[float, float], ...]  # (along, up) in meters, from the rear foot over the top to the front foot


@dataclass(frozen=True)
class Pose:
    """Where a vehicle stands and where its front points."""

    x: float
    z: float
    heading: float  # radians from the street's direction, to the right

    def world(self, along: np.ndarray, right: np.ndarray, up: np.ndarray) -> np.ndarray:
        """Vehicle axes (N,) each -> world (N, 3)."""
        sin, cos = np.sin(self.heading), np.cos(self.heading)
        return np.stack([self.x + along * sin + right * cos, up, self.z + along * cos - right * sin], axis=1)

    def turn(self, along: float, right: float, up: float) -> np.ndarray:
        """A direction in vehicle axes -> world (3,)."""
        sin, cos = np.sin(self.heading), np.cos(self.heading)
        return np.array((along * sin + right * cos, up, along * cos - right * sin))

    def footprint(self, length: float, width: float) -> np.ndarray:
        """(4, 2) of X, Z."""
        along, right = np.array((-1, 1, 1, -1)) * length / 2, np.array((-1, -1, 1, 1)) * width / 2
        return self.world(along, right, np.zeros(4))[:, (0, 2)]


class Builder:
    """Collects the visible, lit faces of one vehicle."""

    def __init__(self, canvas: Canvas, light: Light, pose: Pose, pixels: float) -> None:
        self.camera, self.light, self.pose = canvas.camera, light, pose
        self.parts: list[Part] = []
        self.close, self.far = pixels > 9, pixels < 5  # small details show; hardly more than a dot
        lens = np.array((self.camera.x, self.camera.y, 0.0))
        delta = lens - np.array((pose.x, 0, pose.z))
        sin, cos = np.sin(pose.heading), np.cos(pose.heading)
        self._turn = np.array([[sin, 0.0, cos], [cos, 0.0, -sin], [0.0, 1.0, 0.0]])  # vehicle axes -> world
        self._place = np.array((pose.x, 0.0, pose.z))
        # the lens in vehicle axes
        self.lens = [float(v) for v in (delta[0] * sin + delta[2] * cos, delta[0] * cos - delta[2] * sin, delta[1])]

    def face(
        self, points: np.ndarray, normal: tuple[float, float, float], color: np.ndarray, solid: bool = True
    ) -> None:
        """points (N, 3) in vehicle axes (along, right, up); drawn only when it faces the lens."""
        first = points[0].tolist()
        if sum((eye - at) * part for eye, at, part in zip(self.lens, first, normal, strict=True)) <= 0:
            return
        polygon = self.camera.polygon(points @ self._turn + self._place)
        if polygon is not None:
            self.parts.append(Part([polygon], self.light.on(color, self.pose.turn(*normal)), solid))

    def prism(self, profile: Profile, width: float, top_width: float, color: np.ndarray) -> None:
        """A profile extruded; narrower at its top points."""
        middle = (sum(z for z, _ in profile) / len(profile), sum(y for _, y in profile) / len(profile))
        high = max(y for _, y in profile) - 0.12
        half = [(top_width if y > high else width) / 2 for _, y in profile]
        for here, (z0, y0) in enumerate(profile):
            there = (here + 1) % len(profile)
            z1, y1 = profile[there]
            size = math.hypot(z1 - z0, y1 - y0)
            out = ((y1 - y0) / size, (z0 - z1) / size)
            if out[0] * (z0 + z1 - 2 * middle[0]) + out[1] * (y0 + y1 - 2 * middle[1]) < 0:
                out = (-out[0], -out[1])
            if out[0] * (self.lens[0] - z0) + out[1] * (self.lens[2] - y0) > 0:
                a, b = half[here], half[there]
                quad = np.array([(z0, -a, y0), (z1, -b, y1), (z1, b, y1), (z0, a, y0)])
                self.face(quad, (out[0], 0.0, out[1]), color)
        for side in (-1, 1):
            outline = np.array([(z, side * wide, y) for (z, y), wide in zip(profile, half, strict=True)])
            self.face(outline, (0.0, side * 0.97, 0.2), color)

    def on_side(self, shape: np.ndarray, width: float, color: np.ndarray, solid: bool = False) -> None:
        """A shape (N, 2) of (along, up) on the side of the vehicle that can be seen."""
        side = math.copysign(1.0, self.lens[1])
        points = np.empty((len(shape), 3))
        points[:, 0], points[:, 1], points[:, 2] = shape[:, 0], side * width / 2, shape[:, 1]
        self.face(points, (0.0, side, 0.0), color, solid)

    def on_end(self, along: float, x0: float, y0: float, x1: float, y1: float, color: np.ndarray) -> None:
        """A rectangle on the front (along > 0) or rear."""
        if (self.lens[0] - along) * along > 0:
            points = np.array([(along, x0, y0), (along, x1, y0), (along, x1, y1), (along, x0, y1)])
            self.face(points, (math.copysign(1.0, along), 0.0, 0.0), color, False)

    def wheels(self, places: Sequence[float], radius: float, width: float) -> None:
        tyre, hub = np.array((26, 26, 28)), np.array((140, 142, 146))
        for place in places:
            ring = np.column_stack([np.cos(_TURN) * radius + place, np.sin(_TURN) * radius + radius])
            self.on_side(ring, width, tyre, True)
            if self.close:
                self.on_side((ring - (place, radius)) * 0.58 + (place, radius), width, hub)


def rect(x0: float, y0: float, x1: float, y1: float) -> np.ndarray:
    return np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)])


def under(builder: Builder, length: float, width: float, clearance: float) -> None:
    dark = np.array((16, 16, 18))
    half = length / 2 - 0.25
    builder.prism(
        ((-half, 0.1), (-half, clearance + 0.1), (half, clearance + 0.1), (half, 0.1)), width - 0.2, width - 0.2, dark
    )


def lamps(builder: Builder, half: float, width: float, low: float, high: float) -> None:
    red, white, dark = np.array((176, 26, 24)), np.array((236, 236, 224)), np.array((30, 31, 34))
    for side in (-1, 1):
        a, b = sorted((side * (width / 2 - 0.08), side * (width / 2 - 0.42)))
        builder.on_end(-half, a, low, b, high, red * 1.25)
        builder.on_end(half, a, low, b, high, white)
    builder.on_end(half, -width * 0.24, low - 0.12, width * 0.24, low + 0.06, dark)
    for end in (-half, half):
        builder.on_end(end, -0.26, low - 0.2, 0.26, low - 0.08, white)
        builder.on_end(end, -width / 2 + 0.04, low - 0.42, width / 2 - 0.04, low - 0.26, dark + 24)
