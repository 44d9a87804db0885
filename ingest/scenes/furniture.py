"""What stands on a pavement: lamp posts, signs, traffic lights, bollards, bins, benches, cafe tables, walls, fences."""

from __future__ import annotations

import numpy as np

from ingest.scenes.canvas import Billboard, Canvas, Part, box, disc, limb
from ingest.scenes.kinds import Kind
from ingest.scenes.light import Light

_METAL = ((92, 96, 98), (62, 68, 66), (140, 142, 140), (46, 48, 52), (110, 92, 74))


def _metal(light: Light, rng: np.random.Generator) -> np.ndarray:
    return light.upright(np.array(_METAL[rng.integers(len(_METAL))]) * rng.uniform(0.8, 1.2))


def lamp_post(canvas: Canvas, light: Light, x: float, z: float, inward: int, rng: np.random.Generator) -> None:
    """A street lamp with its arm over the road (`inward` -1 or 1)."""
    board = Billboard(canvas.camera, x, z, mirror=inward < 0)
    metal, tall, arm = _metal(light, rng), rng.uniform(5.0, 8.5), rng.uniform(0.0, 2.2)
    if not board.visible:
        return
    board.add(metal * 0.9, limb((0, 0), (0, 1.0), 0.13, 0.12))
    board.add(metal, limb((0, 0.8), (0, tall), 0.11, 0.075))
    board.add(metal * 1.2, limb((-0.03, 0.5), (-0.02, tall), 0.03, 0.02), solid=False)
    board.add(metal, limb((0, tall), (arm, tall + 0.25), 0.07, 0.05))
    board.add(metal * 0.9, limb((arm - 0.05, tall + 0.26), (arm + 0.5, tall + 0.2), 0.1, 0.07))
    glow = np.array((255, 236, 180)) if light.lamps else metal * 1.5
    board.add(glow, limb((arm + 0.05, tall + 0.2), (arm + 0.42, tall + 0.16), 0.05, 0.04), solid=False)
    canvas.paint(board.parts, Kind.POLE, board.depth, rng, 0.05)


def sign_post(canvas: Canvas, light: Light, x: float, z: float, rng: np.random.Generator) -> None:
    """A traffic sign on its post: the post first, the plate in front of it."""
    post, plate = Billboard(canvas.camera, x, z), Billboard(canvas.camera, x, z)
    metal, tall, shape = _metal(light, rng) * 1.2, rng.uniform(2.1, 2.9), rng.integers(5)
    size = rng.uniform(0.3, 0.42)
    if not post.visible:
        return
    red, white, blue, yellow = (
        light.upright(np.array(c)) for c in ((196, 30, 36), (236, 236, 232), (28, 78, 168), (240, 200, 50))
    )
    post.add(metal, limb((0, 0), (0, tall), 0.065, 0.06))
    canvas.paint(post.parts, Kind.POLE, post.depth, rng, 0.04)
    if shape == 0:
        plate.add(red, disc(0, tall, size))
        plate.add(white, disc(0, tall, size * 0.72), solid=False)
        plate.add(white * 0.12, box(-0.1, tall - 0.1, 0.1, tall + 0.1), solid=False)
    elif shape == 1:
        corners = np.array([(-size, tall - 0.5 * size), (size, tall - 0.5 * size), (0, tall + 1.2 * size)])
        plate.add(red, corners)
        plate.add(white, (corners - corners.mean(0)) * 0.62 + corners.mean(0), solid=False)
    elif shape == 2:
        plate.add(blue, box(-size, tall - size, size, tall + size))
        plate.add(white, box(-size * 0.4, tall - size * 0.6, size * 0.4, tall + size * 0.6), solid=False)
    elif shape == 3:
        plate.add(
            yellow, np.array([(0, tall - size * 1.2), (size * 1.2, tall), (0, tall + size * 1.2), (-size * 1.2, tall)])
        )
    else:
        plate.add(blue, box(-0.75, tall - 0.22, 0.75, tall + 0.22))
        plate.add(white, box(-0.55, tall - 0.05, 0.5, tall + 0.06), solid=False)
    canvas.paint(plate.parts, Kind.SIGN, plate.depth, rng, 0.03)


def traffic_light(canvas: Canvas, light: Light, x: float, z: float, rng: np.random.Generator) -> None:
    """A post with its three lamps."""
    post, head = Billboard(canvas.camera, x, z), Billboard(canvas.camera, x, z)
    metal, lit = _metal(light, rng), rng.integers(3)
    if not post.visible:
        return
    post.add(metal, limb((0, 0), (0, 2.9), 0.08, 0.07))
    canvas.paint(post.parts, Kind.POLE, post.depth, rng, 0.04)
    head.add(light.upright(np.array((28, 30, 30))), box(-0.2, 2.5, 0.2, 3.55))
    for number, color in enumerate(((250, 60, 50), (250, 190, 50), (70, 230, 120))):
        shown = np.array(color) if number == lit else np.array(color) * 0.22
        head.add(shown, disc(0, 3.35 - 0.33 * number, 0.125), solid=False)
    canvas.paint(head.parts, Kind.TRAFFIC_LIGHT, head.depth, rng, 0.02)


def bollards(canvas: Canvas, light: Light, x: float, z: float, rng: np.random.Generator) -> None:
    """A short post by the kerb."""
    board = Billboard(canvas.camera, x, z)
    metal, red = _metal(light, rng), rng.random() < 0.4
    if not board.visible:
        return
    board.add(metal, limb((0, 0), (0, 0.92), 0.085, 0.08))
    if red:
        board.add(light.upright(np.array((220, 216, 210))), box(-0.09, 0.66, 0.09, 0.82), solid=False)
    canvas.paint(board.parts, Kind.POLE, board.depth, rng, 0.05)


def bin_(canvas: Canvas, light: Light, x: float, z: float, rng: np.random.Generator) -> None:
    """A litter bin, a box or a cabinet."""
    board = Billboard(canvas.camera, x, z)
    tints = ((50, 84, 60), (70, 72, 76), (120, 124, 122), (170, 120, 50), (48, 58, 80))
    color = light.upright(np.array(tints[rng.integers(len(tints))]))
    wide, tall = rng.uniform(0.24, 0.5), rng.uniform(0.8, 1.25)
    if not board.visible:
        return
    board.add(color, box(-wide, 0, wide, tall))
    board.add(color * 1.25, box(-wide, tall - 0.12, wide, tall), solid=False)
    board.add(color * 0.5, box(-wide * 0.7, tall - 0.32, wide * 0.7, tall - 0.18), solid=False)
    canvas.paint(board.parts, Kind.BIN, board.depth, rng, 0.08)


def bench(canvas: Canvas, light: Light, x: float, z: float, rng: np.random.Generator) -> None:
    """A wooden bench that faces the road."""
    board = Billboard(canvas.camera, x, z)
    wood = light.upright(np.array((140, 96, 58)) * rng.uniform(0.7, 1.2))
    if not board.visible:
        return
    for place in (-0.7, 0.7):
        board.add(wood * 0.4, box(place - 0.05, 0, place + 0.05, 0.85))
    for low in (0.38, 0.56, 0.72):
        board.add(wood * (0.8 + 0.3 * low), box(-0.85, low, 0.85, low + 0.12))
    canvas.paint(board.parts, Kind.BENCH, board.depth, rng, 0.1)


def cafe(canvas: Canvas, light: Light, x: float, z: float, rng: np.random.Generator) -> None:
    """A table and its chairs."""
    wood, frame = light.upright(np.array((166, 124, 84)) * rng.uniform(0.7, 1.3)), _metal(light, rng)
    for sign in (-1, 1):
        chair = Billboard(canvas.camera, x + sign * 0.75, z + 0.1)
        if not chair.visible:
            continue
        for place in (-0.2, 0.2):
            chair.add(frame, limb((place, 0), (place, 0.46), 0.03, 0.03))
        chair.add(frame, limb((sign * 0.22, 0.4), (sign * 0.26, 0.92), 0.04, 0.04))
        chair.add(frame * 1.2, box(-0.24, 0.42, 0.24, 0.5))
        chair.add(frame * 1.1, box(min(sign * 0.2, sign * 0.3), 0.55, max(sign * 0.2, sign * 0.3), 0.9))
        canvas.paint(chair.parts, Kind.CHAIR, chair.depth, rng, 0.05)
    table = Billboard(canvas.camera, x, z)
    if table.visible:
        table.add(frame * 0.8, limb((0, 0), (0, 0.7), 0.05, 0.04))
        table.add(frame * 0.8, limb((-0.25, 0.03), (0.25, 0.03), 0.03, 0.03))
        table.add(wood, box(-0.48, 0.68, 0.48, 0.77))
        canvas.paint(table.parts, Kind.TABLE, table.depth, rng, 0.06)


def barrier(
    canvas: Canvas, light: Light, x: float, span: tuple[float, float], wall: bool, rng: np.random.Generator
) -> None:
    """A garden wall or a picket fence along the street. span: from which Z to which."""
    z0, z1 = span
    camera = canvas.camera
    tall = rng.uniform(0.8, 1.6)
    stone = np.array(((150, 142, 130), (158, 100, 80), (176, 172, 164))[rng.integers(3)])
    paint = np.array(((214, 212, 206), (110, 84, 60), (52, 56, 54))[rng.integers(3)])
    normal, depth = np.array((-np.sign(x), 0.0, 0.0)), max(camera.distance(x, (z0 + z1) / 2), 1)
    color = light.on(stone if wall else paint, normal)
    parts = []

    def quad(a: float, b: float, low: float, high: float, tint: np.ndarray, solid: bool = True) -> None:
        polygon = camera.polygon(np.array([(x, low, a), (x, low, b), (x, high, b), (x, high, a)]))
        if polygon is not None:
            parts.append(Part([polygon], tint, solid))

    if wall:
        quad(z0, z1, 0, tall, color)
        quad(z0, z1, tall - 0.12, tall, color * 1.2, False)
        for joint in np.arange(z0, z1, 1.1):
            quad(joint, joint + 0.05, 0, tall - 0.12, color * 0.8, False)
    else:
        quad(z0, z1, 0.3, 0.4, color)
        quad(z0, z1, tall - 0.3, tall - 0.2, color)
        for picket in np.arange(z0, z1, 0.22 if depth < 25 else 0.5):
            quad(picket, picket + 0.12, 0.05, tall, color * rng.uniform(0.9, 1.05))
    canvas.paint(parts, Kind.WALL if wall else Kind.FENCE, depth, rng, 0.1)
