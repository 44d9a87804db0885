"""Cars, vans, trucks, buses and trams, each with its glass and colors."""

from __future__ import annotations

import numpy as np

from ingest.scenes.canvas import Canvas
from ingest.scenes.kinds import Kind
from ingest.scenes.light import Light
from ingest.scenes.vehicle_parts import Builder, Pose, lamps, rect, under

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

# side profiles
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
    builder = Builder(canvas, light, pose, pixels=1.5 * canvas.camera.focal / max(depth, 1))
    paint = np.array(_PAINTS[rng.integers(len(_PAINTS))]) * rng.uniform(0.85, 1.1) + rng.normal(0, 5, 3)
    draw = {Kind.CAR: _car, Kind.VAN: _van, Kind.TRUCK: _truck, Kind.BUS: _bus, Kind.TRAM: _bus}[kind]
    draw(builder, kind, paint, rng)
    canvas.paint(builder.parts, kind, max(depth, 1), rng, 0.035)


def _car(builder: Builder, kind: Kind, paint: np.ndarray, rng: np.random.Generator) -> None:
    body, cabin = _CARS[rng.integers(len(_CARS))]
    if builder.far:
        body = ((body[0][0], 0.1), *body[1:-1], (body[-1][0], 0.1))  # down to where wheels and shadow would be
    half, width = body[-1][0], 1.78
    glass = _GLASS * rng.uniform(0.7, 1.5) + builder.light.horizon * rng.uniform(0.02, 0.22)
    if not builder.far:
        under(builder, 2 * half, width, body[0][1])
    builder.prism(body, width, width, paint)
    if builder.close:
        builder.on_side(rect(-half + 0.1, body[0][1], half - 0.1, body[0][1] + 0.1), width, paint * 0.5)
        builder.on_side(rect(-0.45, body[0][1] + 0.1, -0.42, cabin[0][1]), width, paint * 0.62)
        lamps(builder, half + 0.03, width, 0.62, 0.8)
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


def _van(builder: Builder, kind: Kind, paint: np.ndarray, rng: np.random.Generator) -> None:
    paint = np.array((224, 225, 224)) * rng.uniform(0.8, 1.0) if rng.random() < 0.55 else paint
    half, width, roof = 2.6, 2.0, rng.uniform(1.95, 2.5)
    under(builder, 2 * half, width, 0.4)
    builder.prism(
        ((-half, 0.38), (-half, roof), (1.2, roof), (1.95, 1.2), (half, 0.98), (half, 0.38)), width, width - 0.16, paint
    )
    builder.wheels((-1.65, 1.7), 0.36, width + 0.02)
    builder.on_side(np.array([(0.75, 1.15), (1.75, 1.15), (1.2, roof - 0.15), (0.75, roof - 0.15)]), width, _GLASS)
    quad = np.array([(1.9, -0.85, 1.28), (1.9, 0.85, 1.28), (1.28, 0.8, roof - 0.1), (1.28, -0.8, roof - 0.1)])
    builder.face(quad + np.array((0.02, 0, 0.02)), (0.75, 0.0, 0.65), _GLASS + 12, False)
    if builder.close:
        lamps(builder, half + 0.02, width, 0.72, 0.95)
        builder.on_end(-half - 0.02, -0.8, 1.2, -0.08, roof - 0.25, _GLASS)
        builder.on_end(-half - 0.02, 0.08, 1.2, 0.8, roof - 0.25, _GLASS)
        builder.on_end(-half - 0.02, -0.02, 0.45, 0.02, roof - 0.1, paint * 0.5)
        if rng.random() < 0.5:
            builder.on_side(rect(-2.2, 0.9, 0.4, 1.5), width, rng.uniform(30, 220, 3))


def _truck(builder: Builder, kind: Kind, paint: np.ndarray, rng: np.random.Generator) -> None:
    half, width, roof = 4.0, 2.4, rng.uniform(2.9, 3.6)
    cargo = rng.uniform(60, 225, 3) if rng.random() < 0.5 else np.array((214, 214, 208)) * rng.uniform(0.7, 1)
    under(builder, 2 * half, width, 0.8)

    def load() -> None:
        builder.prism(((-half, 0.95), (-half, roof), (1.7, roof), (1.7, 0.95)), width, width, cargo)
        builder.on_end(-half - 0.02, -0.03, 1.0, 0.03, roof - 0.05, cargo * 0.55)
        builder.on_side(rect(-half + 0.3, 1.5, 1.2, roof - 0.6), width, cargo * 0.82)

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
        lamps(builder, half + 0.02, width, 0.75, 0.95)


def _bus(builder: Builder, kind: Kind, paint: np.ndarray, rng: np.random.Generator) -> None:
    length, width, roof = size_of(kind)
    half, rail = length / 2, kind == Kind.TRAM
    liveries = ((196, 36, 34), (232, 176, 40), (40, 92, 160), (60, 128, 84), (222, 222, 216))
    paint = np.array(liveries[rng.integers(len(liveries))]) * rng.uniform(0.85, 1.05)
    nose = 0.9 if rail else 0.15
    under(builder, length, width, 0.4)
    builder.prism(
        ((-half, 0.35), (-half + nose * 0.6, roof), (half - nose, roof), (half, 1.2), (half, 0.35)),
        width,
        width - 0.1,
        paint,
    )
    builder.on_side(rect(-half + 0.1, 0.35, half - 0.1, 0.75), width, paint * 0.55)
    pane = 1.5
    for x0 in np.arange(-half + 0.6, half - 1.6, pane):
        builder.on_side(rect(x0, 1.3, x0 + pane - 0.14, 2.45), width, _GLASS * 1.1)
    for door in (half - 1.5, -1.0):
        builder.on_side(rect(door - 0.6, 0.4, door + 0.6, 2.5), width, _GLASS * 0.8)
        builder.on_side(rect(door - 0.03, 0.4, door + 0.03, 2.5), width, paint * 0.7)
    builder.on_end(half + 0.01, -1.1, 1.25, 1.1, 2.5, _GLASS + 8)
    builder.on_end(-half - 0.01, -1.0, 1.5, 1.0, 2.5, _GLASS)
    builder.on_end(half + 0.02, -0.9, 2.6, 0.9, 2.9, np.array((30, 30, 30)))
    builder.on_end(half + 0.03, -0.5, 2.68, 0.5, 2.84, np.array((240, 180, 60)))
    if builder.close:
        lamps(builder, half + 0.02, width, 0.7, 0.95)
    builder.wheels(
        np.linspace(-half + 2, half - 2, 6).tolist() if rail else (-half + 2.4, half - 2.6), 0.46, width + 0.02
    )
