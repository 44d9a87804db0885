"""People on foot and on two wheels, and dogs: rods and discs, posed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ingest.scenes.canvas import Billboard, Canvas, box, disc, limb
from ingest.scenes.kinds import Kind
from ingest.scenes.light import Light

_SKIN = ((236, 196, 168), (214, 166, 132), (168, 116, 84), (116, 76, 54), (82, 54, 40))
_HAIR = ((44, 34, 28), (92, 64, 40), (160, 124, 72), (128, 128, 128), (24, 22, 22))
_CLOTH = (
    (40, 44, 58),
    (64, 66, 70),
    (28, 28, 30),
    (132, 38, 40),
    (210, 206, 198),
    (54, 88, 128),
    (120, 110, 90),
    (62, 84, 58),
    (196, 140, 60),
    (170, 90, 120),
    (90, 130, 150),
    (226, 190, 70),
)


def _pick(palette: tuple, light: Light, rng: np.random.Generator) -> np.ndarray:
    return light.upright(np.array(palette[rng.integers(len(palette))]) * rng.uniform(0.8, 1.15) + rng.normal(0, 4, 3))


def pedestrian(canvas: Canvas, light: Light, x: float, z: float, rng: np.random.Generator) -> None:
    """Someone standing or walking, 1.1 to 1.9 m tall."""
    board = Billboard(canvas.camera, x, z, mirror=rng.random() < 0.5)
    tall = rng.uniform(1.1, 1.4) if rng.random() < 0.12 else rng.normal(1.72, 0.09)
    skin, hair = _pick(_SKIN, light, rng), _pick(_HAIR, light, rng)
    coat, trousers = _pick(_CLOTH, light, rng), _pick(_CLOTH[:7], light, rng)
    stride, swing, side = rng.uniform(0, 0.26), rng.uniform(-0.2, 0.25), rng.random() < 0.6
    skirt, bag, long_coat = rng.random() < 0.2, rng.random() < 0.35, rng.random() < 0.3
    if not board.visible:
        return
    if board.scale < 7:  # a dozen pixels: legs, coat, head
        board.add(trousers, limb((0, 0.1), (stride * 0.4, 0.9), 0.09, 0.13))
        board.add(coat, limb((0, 0.95), (0, tall - 0.42), 0.17, 0.2))
        board.add(skin * 0.8, disc(0, tall - 0.14, 0.11, 0.14))
        canvas.paint(board.parts, Kind.PERSON, board.depth, rng, 0.05)
        return
    k, wide = tall / 1.75, (0.17 if side else 0.22)
    hip, shoulder = 0.9 * k, 1.42 * k
    legs = trousers if not skirt else skin
    for sign, shade in ((-1, 0.82), (1, 1.0)):
        knee = (sign * stride * 0.55 + (0.07 * sign if not side else 0), 0.48 * k)
        foot = (sign * stride + (0.08 * sign if not side else 0), 0.06)
        board.add(legs * shade, limb((0.06 * sign, hip), knee, 0.1 * k, 0.075 * k))
        board.add(legs * shade, limb(knee, foot, 0.075 * k, 0.05 * k))
        board.add(light.upright(np.array((34, 30, 28))), limb(foot, (foot[0] + 0.1, 0.04), 0.05, 0.04))
    arm_colors = ((-1, 0.78),) if side else ((-1, 0.9), (1, 0.95))
    for sign, shade in arm_colors:
        elbow = (sign * (wide + 0.06) + swing * sign, 1.12 * k)
        hand = (elbow[0] + 0.05 * sign + swing * 0.5, 0.86 * k)
        board.add(coat * shade, limb((sign * wide * 0.8, shoulder - 0.05), elbow, 0.07 * k, 0.06 * k))
        board.add(coat * shade, limb(elbow, hand, 0.055 * k, 0.045 * k))
        board.add(skin, disc(*hand, 0.05 * k))
    low = 0.55 * k if skirt or long_coat else hip - 0.08
    torso = np.concatenate([limb((0, hip), (0, shoulder - 0.06), wide * 0.85, wide)])
    board.add(coat, torso)
    if skirt or long_coat:
        board.add(
            coat * 0.92, np.array([(-wide, hip + 0.1), (wide, hip + 0.1), (wide * 1.35, low), (-wide * 1.35, low)])
        )
    board.add(
        coat * 1.12, limb((wide * 0.4, hip + 0.1), (wide * 0.45, shoulder - 0.1), wide * 0.3, wide * 0.35), solid=False
    )
    if side:
        elbow = (0.02 + swing, 1.1 * k)
        board.add(coat * 0.86, limb((0, shoulder - 0.06), elbow, 0.07 * k, 0.06 * k))
        board.add(coat * 0.86, limb(elbow, (elbow[0] + 0.12, 0.9 * k), 0.06 * k, 0.045 * k))
    if bag:
        board.add(_pick(_CLOTH, light, rng), box(-wide - 0.16, hip - 0.1, -wide + 0.08, hip + 0.32))
    board.add(skin * 0.9, limb((0, shoulder), (0, shoulder + 0.12), 0.06 * k, 0.06 * k))
    board.add(skin, disc(0.02, tall - 0.125, 0.095 * k, 0.125 * k))
    board.add(hair, disc(-0.02, tall - 0.075, 0.1 * k, 0.085 * k))
    canvas.paint(board.parts, Kind.PERSON, board.depth, rng, 0.05)


@dataclass(frozen=True)
class Cycle:
    """A bicycle or a motorcycle."""

    motor: bool
    ridden: bool
    side: bool
    """Seen from the side, else from the front."""


def cyclist(canvas: Canvas, light: Light, x: float, z: float, cycle: Cycle, rng: np.random.Generator) -> None:
    """A bicycle or motorcycle, seen from the side or from behind, with or without its rider."""
    motor, ridden, side = cycle.motor, cycle.ridden, cycle.side
    board = Billboard(canvas.camera, x, z, mirror=rng.random() < 0.5)
    metal = light.upright(rng.uniform(20, 200, 3))
    black = light.upright(np.array((30, 30, 32)))
    coat, trousers, skin = _pick(_CLOTH, light, rng), _pick(_CLOTH[:7], light, rng), _pick(_SKIN, light, rng)
    helmet = light.upright(rng.uniform(20, 230, 3))
    if not board.visible:
        return
    radius = 0.3 if motor else 0.34
    thick = 0.13 if motor else 0.05
    if side:
        for place in (-0.55, 0.55):
            board.add(black, disc(place, radius, radius), disc(place, radius, radius - thick))
            board.add(metal * 0.7, disc(place, radius, 0.05))
        rods = (
            ((-0.55, radius), (0, 0.32)),
            ((0, 0.32), (0.4, 0.8)),
            ((-0.2, 0.85), (0, 0.32)),
            ((-0.2, 0.8), (0.4, 0.8)),
            ((0.38, 0.95), (0.55, radius)),
            ((-0.55, radius), (-0.2, 0.8)),
        )
        for start, end in rods:
            board.add(metal, limb(start, end, 0.03, 0.03))
        board.add(black, limb((-0.3, 0.9), (-0.12, 0.9), 0.04, 0.03))
        board.add(black, limb((0.28, 1.02), (0.42, 0.96), 0.03, 0.03))
        if motor:
            board.add(metal, limb((-0.5, 0.72), (0.35, 0.74), 0.12, 0.16))
            board.add(black * 1.4, limb((-0.15, 0.4), (0.2, 0.42), 0.17, 0.17))
    else:
        board.add(black, limb((0, 0.06), (0, 2 * radius), thick * 0.8, thick * 0.8))
        board.add(metal, limb((0, 0.5), (0, 0.95), 0.05 if not motor else 0.16, 0.04 if not motor else 0.12))
        board.add(black, limb((-0.3, 1.0), (0.3, 1.0), 0.025, 0.025))
        if motor:
            board.add(light.upright(np.array((190, 30, 28))), disc(0, 0.8, 0.07), solid=False)
    canvas.paint(board.parts, Kind.MOTORCYCLE if motor else Kind.BICYCLE, board.depth, rng, 0.04)
    if not ridden:
        return
    rider = Billboard(canvas.camera, x, z)
    rider._flip = board._flip
    if side:
        for shade, knee, foot in ((0.8, (0.15, 0.62), (-0.05, 0.28)), (1.0, (0.22, 0.72), (0.08, 0.4))):
            rider.add(trousers * shade, limb((-0.2, 0.95), knee, 0.1, 0.075))
            rider.add(trousers * shade, limb(knee, foot, 0.07, 0.05))
        rider.add(coat, limb((-0.2, 1.0), (0.05, 1.42), 0.15, 0.16))
        rider.add(coat * 0.85, limb((0.06, 1.38), (0.36, 1.05), 0.06, 0.05))
        head = (0.14, 1.64)
    else:
        for sign in (-1, 1):
            rider.add(trousers, limb((sign * 0.08, 0.92), (sign * 0.15, 0.5), 0.1, 0.07))
            rider.add(trousers * 0.9, limb((sign * 0.15, 0.5), (sign * 0.13, 0.25), 0.07, 0.05))
            rider.add(coat * 0.88, limb((sign * 0.18, 1.38), (sign * 0.3, 1.05), 0.07, 0.05))
        rider.add(coat, limb((0, 0.95), (0, 1.4), 0.17, 0.19))
        head = (0.0, 1.66)
    rider.add(skin, disc(*head, 0.1, 0.13))
    rider.add(helmet, disc(head[0], head[1] + 0.06, 0.125, 0.1))
    canvas.paint(rider.parts, Kind.RIDER, rider.depth, rng, 0.05)


def dog(canvas: Canvas, light: Light, x: float, z: float, rng: np.random.Generator) -> None:
    """A dog, from the side."""
    board = Billboard(canvas.camera, x, z, mirror=rng.random() < 0.5)
    coats = ((92, 66, 44), (40, 36, 34), (190, 160, 120), (214, 208, 196))
    coat, k = _pick(coats, light, rng), rng.uniform(0.7, 1.25)
    if not board.visible:
        return
    for place, shade in ((-0.26, 0.8), (0.2, 0.8), (-0.2, 1.0), (0.27, 1.0)):
        board.add(coat * shade, limb((place * k, 0.34 * k), ((place + 0.03) * k, 0.03), 0.06 * k, 0.04 * k))
    board.add(coat, limb((-0.25 * k, 0.45 * k), (0.24 * k, 0.46 * k), 0.12 * k, 0.14 * k))
    board.add(coat, limb((0.26 * k, 0.5 * k), (0.4 * k, 0.68 * k), 0.09 * k, 0.08 * k))
    board.add(coat * 0.9, limb((0.42 * k, 0.69 * k), (0.56 * k, 0.64 * k), 0.08 * k, 0.04 * k))
    board.add(coat * 0.7, limb((0.36 * k, 0.74 * k), (0.34 * k, 0.62 * k), 0.04 * k, 0.03 * k))
    board.add(coat, limb((-0.34 * k, 0.5 * k), (-0.5 * k, 0.68 * k), 0.035 * k, 0.02 * k))
    canvas.paint(board.parts, Kind.DOG, board.depth, rng, 0.06)
