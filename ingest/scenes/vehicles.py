"""Cars, vans, trucks, buses and trams: a side profile extruded to its width, with glass, wheels and lamps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ingest.scenes.canvas import Canvas, Part
from ingest.scenes.kinds import Kind
from ingest.scenes.light import Light

_PAINTS = (
    (188, 190, 194),
    (226, 227, 228),
    (42, 43, 46),
    (92, 95, 100),
    (142, 24, 26),
    (30, 56, 118),
    (66, 84, 104),
    (124, 128, 130),
    (40, 82, 60),
    (196, 150, 40),
    (150, 134, 112),
    (70, 30, 36),
)
_GLASS = np.array((46, 54, 62))
_TURN = np.linspace(0, 2 * np.pi, 20, endpoint=False)

Profile = tuple[tuple[float, float], ...]

# side profiles, (along, up) in meters, from the rear foot over the top to the front foot
_CARS = (  # body, cabin
    (  # saloon
        ((-2.2, 0.28), (-2.22, 0.7), (-2.1, 0.95), (1.0, 0.93), (1.95, 0.76), (2.2, 0.58), (2.2, 0.28)),
        ((-1.8, 0.93), (-1.1, 1.42), (0.25, 1.44), (1.05, 0.92)),
    ),
    (  # hatchback
        ((-1.9, 0.28), (-1.95, 0.75), (-1.85, 0.95), (0.95, 0.95), (1.7, 0.8), (1.9, 0.6), (1.9, 0.28)),
        ((-1.83, 0.94), (-1.5, 1.47), (0.15, 1.5), (1.0, 0.94)),
    ),
    (  # tall estate
        ((-2.2, 0.36), (-2.25, 0.9), (-2.2, 1.08), (1.05, 1.08), (2.0, 0.98), (2.2, 0.75), (2.2, 0.36)),
        ((-2.15, 1.07), (-1.95, 1.7), (0.2, 1.74), (1.1, 1.07)),
    ),
)


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


class _Builder:
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


def _rect(x0: float, y0: float, x1: float, y1: float) -> np.ndarray:
    return np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)])


def size_of(kind: Kind) -> tuple[float, float, float]:
    """Length, width, height in meters, for shadows and spacing."""
    return {
        Kind.CAR: (4.3, 1.78, 1.45),
        Kind.VAN: (5.2, 2.0, 2.2),
        Kind.TRUCK: (8.0, 2.4, 3.3),
        Kind.BUS: (11.0, 2.5, 3.1),
        Kind.TRAM: (24.0, 2.6, 3.5),
    }[kind]


def vehicle(canvas: Canvas, light: Light, kind: Kind, pose: Pose, rng: np.random.Generator) -> None:
    """Paints one vehicle."""
    if not canvas.camera.sees(pose.x, pose.z, size_of(kind)[0] / 2 + 0.5):
        return
    depth = canvas.camera.distance(pose.x, pose.z)
    builder = _Builder(canvas, light, pose, pixels=1.5 * canvas.camera.focal / max(depth, 1))
    paint = np.array(_PAINTS[rng.integers(len(_PAINTS))]) * rng.uniform(0.85, 1.1) + rng.normal(0, 5, 3)
    draw = {Kind.CAR: _car, Kind.VAN: _van, Kind.TRUCK: _truck, Kind.BUS: _bus, Kind.TRAM: _bus}[kind]
    draw(builder, kind, paint, rng)
    canvas.paint(builder.parts, kind, max(depth, 1), rng, 0.035)


def _under(builder: _Builder, length: float, width: float, clearance: float) -> None:
    dark = np.array((16, 16, 18))
    half = length / 2 - 0.25
    builder.prism(
        ((-half, 0.1), (-half, clearance + 0.1), (half, clearance + 0.1), (half, 0.1)), width - 0.2, width - 0.2, dark
    )


def _lamps(builder: _Builder, half: float, width: float, low: float, high: float) -> None:
    red, white, dark = np.array((176, 26, 24)), np.array((236, 236, 224)), np.array((30, 31, 34))
    for side in (-1, 1):
        a, b = sorted((side * (width / 2 - 0.08), side * (width / 2 - 0.42)))
        builder.on_end(-half, a, low, b, high, red * 1.25)
        builder.on_end(half, a, low, b, high, white)
    builder.on_end(half, -width * 0.24, low - 0.12, width * 0.24, low + 0.06, dark)
    for end in (-half, half):
        builder.on_end(end, -0.26, low - 0.2, 0.26, low - 0.08, white)
        builder.on_end(end, -width / 2 + 0.04, low - 0.42, width / 2 - 0.04, low - 0.26, dark + 24)


def _car(builder: _Builder, kind: Kind, paint: np.ndarray, rng: np.random.Generator) -> None:
    body, cabin = _CARS[rng.integers(len(_CARS))]
    if builder.far:
        body = ((body[0][0], 0.1), *body[1:-1], (body[-1][0], 0.1))  # down to where wheels and shadow would be
    half, width = body[-1][0], 1.78
    glass = _GLASS * rng.uniform(0.7, 1.5) + builder.light.horizon * rng.uniform(0.02, 0.22)
    if not builder.far:
        _under(builder, 2 * half, width, body[0][1])
    builder.prism(body, width, width, paint)
    if builder.close:
        builder.on_side(_rect(-half + 0.1, body[0][1], half - 0.1, body[0][1] + 0.1), width, paint * 0.5)
        builder.on_side(_rect(-0.45, body[0][1] + 0.1, -0.42, cabin[0][1]), width, paint * 0.62)
        _lamps(builder, half + 0.03, width, 0.62, 0.8)
    if not builder.far:
        builder.wheels((-half + 0.75, half - 0.78), 0.33, width + 0.02)
    builder.prism(cabin, width - 0.06, width - 0.36, paint)
    points = np.array(cabin)
    middle = points.mean(0)
    inner = (points - middle) * (0.86, 0.74) + middle + (0, 0.01)
    lower, upper = width / 2 - 0.05, (width - 0.36) / 2
    for side in (-1, 1):
        across = side * np.where(points[:, 1] > points[:, 1].max() - 0.12, upper + 0.02, lower + 0.01)
        builder.face(np.column_stack([inner[:, 0], across, inner[:, 1]]), (0, side * 0.97, 0.2), glass, False)
        if builder.close:
            pillar = np.array(
                [
                    (-0.42, inner[:, 1].min()),
                    (-0.32, inner[:, 1].min()),
                    (-0.36, inner[:, 1].max()),
                    (-0.44, inner[:, 1].max()),
                ]
            )
            builder.face(
                np.column_stack([pillar[:, 0], np.full(4, side * (lower + upper) / 2), pillar[:, 1]]),
                (0, side * 0.97, 0.2),
                paint * 0.5,
                False,
            )
    for low, high, facing in ((0, 1, -1), (3, 2, 1)):
        a, b = points[low], points[high]
        quad = np.array(
            [
                (*((a * 0.88 + b * 0.12)[:1]), -lower * 0.9, (a * 0.88 + b * 0.12)[1]),
                (*((a * 0.88 + b * 0.12)[:1]), lower * 0.9, (a * 0.88 + b * 0.12)[1]),
                (*((a * 0.12 + b * 0.88)[:1]), upper * 0.92, (a * 0.12 + b * 0.88)[1]),
                (*((a * 0.12 + b * 0.88)[:1]), -upper * 0.92, (a * 0.12 + b * 0.88)[1]),
            ]
        )
        builder.face(quad, (facing * 0.75, 0.0, 0.65), glass + 14, False)


def _van(builder: _Builder, kind: Kind, paint: np.ndarray, rng: np.random.Generator) -> None:
    paint = np.array((224, 225, 224)) * rng.uniform(0.8, 1.0) if rng.random() < 0.55 else paint
    half, width, roof = 2.6, 2.0, rng.uniform(1.95, 2.5)
    _under(builder, 2 * half, width, 0.4)
    builder.prism(
        ((-half, 0.38), (-half, roof), (1.2, roof), (1.95, 1.2), (half, 0.98), (half, 0.38)), width, width - 0.16, paint
    )
    builder.wheels((-1.65, 1.7), 0.36, width + 0.02)
    builder.on_side(np.array([(0.75, 1.15), (1.75, 1.15), (1.2, roof - 0.15), (0.75, roof - 0.15)]), width, _GLASS)
    quad = np.array([(1.9, -0.85, 1.28), (1.9, 0.85, 1.28), (1.28, 0.8, roof - 0.1), (1.28, -0.8, roof - 0.1)])
    builder.face(quad + np.array((0.02, 0, 0.02)), (0.75, 0.0, 0.65), _GLASS + 12, False)
    if builder.close:
        _lamps(builder, half + 0.02, width, 0.72, 0.95)
        builder.on_end(-half - 0.02, -0.8, 1.2, -0.08, roof - 0.25, _GLASS)
        builder.on_end(-half - 0.02, 0.08, 1.2, 0.8, roof - 0.25, _GLASS)
        builder.on_end(-half - 0.02, -0.02, 0.45, 0.02, roof - 0.1, paint * 0.5)
        if rng.random() < 0.5:
            builder.on_side(_rect(-2.2, 0.9, 0.4, 1.5), width, rng.uniform(30, 220, 3))


def _truck(builder: _Builder, kind: Kind, paint: np.ndarray, rng: np.random.Generator) -> None:
    half, width, roof = 4.0, 2.4, rng.uniform(2.9, 3.6)
    cargo = rng.uniform(60, 225, 3) if rng.random() < 0.5 else np.array((214, 214, 208)) * rng.uniform(0.7, 1)
    _under(builder, 2 * half, width, 0.8)

    def load() -> None:
        builder.prism(((-half, 0.95), (-half, roof), (1.7, roof), (1.7, 0.95)), width, width, cargo)
        builder.on_end(-half - 0.02, -0.03, 1.0, 0.03, roof - 0.05, cargo * 0.55)
        builder.on_side(_rect(-half + 0.3, 1.5, 1.2, roof - 0.6), width, cargo * 0.82)

    def cab() -> None:
        builder.prism(
            ((1.95, 0.45), (1.95, 2.55), (3.5, 2.6), (3.95, 1.5), (half, 0.45)), width - 0.1, width - 0.3, paint
        )
        builder.on_side(np.array([(2.6, 1.5), (3.75, 1.5), (3.45, 2.35), (2.6, 2.35)]), width - 0.1, _GLASS)
        quad = np.array([(3.97, -1, 1.55), (3.97, 1, 1.55), (3.58, 0.95, 2.5), (3.58, -0.95, 2.5)])
        builder.face(quad, (0.9, 0.0, 0.3), _GLASS + 12, False)

    for piece in (load, cab) if builder.lens[0] > 0 else (cab, load):
        piece()
    builder.wheels((-2.9, -1.9, 2.9), 0.48, width + 0.02)
    if builder.close:
        _lamps(builder, half + 0.02, width, 0.75, 0.95)


def _bus(builder: _Builder, kind: Kind, paint: np.ndarray, rng: np.random.Generator) -> None:
    length, width, roof = size_of(kind)
    half, rail = length / 2, kind == Kind.TRAM
    liveries = ((196, 36, 34), (232, 176, 40), (40, 92, 160), (60, 128, 84), (222, 222, 216))
    paint = np.array(liveries[rng.integers(len(liveries))]) * rng.uniform(0.85, 1.05)
    nose = 0.9 if rail else 0.15
    _under(builder, length, width, 0.4)
    builder.prism(
        ((-half, 0.35), (-half + nose * 0.6, roof), (half - nose, roof), (half, 1.2), (half, 0.35)),
        width,
        width - 0.1,
        paint,
    )
    builder.on_side(_rect(-half + 0.1, 0.35, half - 0.1, 0.75), width, paint * 0.55)
    pane = 1.5
    for x0 in np.arange(-half + 0.6, half - 1.6, pane):
        builder.on_side(_rect(x0, 1.3, x0 + pane - 0.14, 2.45), width, _GLASS * 1.1)
    for door in (half - 1.5, -1.0):
        builder.on_side(_rect(door - 0.6, 0.4, door + 0.6, 2.5), width, _GLASS * 0.8)
        builder.on_side(_rect(door - 0.03, 0.4, door + 0.03, 2.5), width, paint * 0.7)
    builder.on_end(half + 0.01, -1.1, 1.25, 1.1, 2.5, _GLASS + 8)
    builder.on_end(-half - 0.01, -1.0, 1.5, 1.0, 2.5, _GLASS)
    builder.on_end(half + 0.02, -0.9, 2.6, 0.9, 2.9, np.array((30, 30, 30)))
    builder.on_end(half + 0.03, -0.5, 2.68, 0.5, 2.84, np.array((240, 180, 60)))
    if builder.close:
        _lamps(builder, half + 0.02, width, 0.7, 0.95)
    builder.wheels(
        np.linspace(-half + 2, half - 2, 6).tolist() if rail else (-half + 2.4, half - 2.6), 0.46, width + 0.02
    )
