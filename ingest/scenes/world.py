"""Fills a street: who and what stands where. Returns things to be painted from far to near."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from ingest.scenes import buildings, furniture, people, plants, vehicle_parts, vehicles
from ingest.scenes.canvas import Canvas
from ingest.scenes.kinds import Kind
from ingest.scenes.light import Light
from ingest.scenes.street import Lot, Street

Shadow = tuple[np.ndarray, float, float]  # footprint (N, 2) of X and Z, from which height to which


@dataclass(frozen=True)
class Thing:
    """Something to paint, standing around (x, z)."""

    x: float
    z: float
    radius: float  # meters around (x, z) that its picture can reach, for leaving out what is not in view
    paint: Callable[[Canvas, Light, np.random.Generator], None]
    shadow: Shadow
    order: float | None = None  # the Z it is sorted by, where that is not `z`


def _disc(x: float, z: float, radius: float) -> np.ndarray:
    turn = np.linspace(0, 2 * np.pi, 8, endpoint=False)
    return np.stack([x + radius * np.cos(turn), z + radius * np.sin(turn)], 1)


def fill(street: Street, rng: np.random.Generator) -> list[Thing]:
    """All things of a street, farthest first."""
    busy = rng.uniform(0.25, 1.3)
    things = _buildings(street)
    things += _traffic(street, busy, rng)
    for side in (-1, 1):
        things += _pavement(street, side, busy, rng)
        things += _yard(street, side, rng)
    things += _crossing(street, busy, rng)
    return sorted(things, key=lambda thing: -(thing.z if thing.order is None else thing.order))


def shade(street: Street, thing: Thing, light: Light) -> Light:
    """The light that reaches a thing: without the sun where a building is in its way."""
    if street.shaded(thing.x, thing.z, light.direction):
        return replace(light, sun=light.sun * 0.12, ambient=light.ambient * 0.94)
    return light


def _stand(
    street: Street, x: float, z: float, painter: Callable[..., None], size: tuple[float, float], *extra: object
) -> Thing:
    """Something at (x, z) of the straight street: `painter(canvas, light, x, z, *extra, rng)`. size: radius, height."""
    radius, height = size
    x += street.bend(z)

    def paint(canvas: Canvas, light: Light, rng: np.random.Generator) -> None:
        painter(canvas, light, x, z, *extra, rng)

    return Thing(x, z, radius + 3, paint, (_disc(x, z, radius), 0, height))


def _buildings(street: Street) -> list[Thing]:
    things = []
    for lot in street.lots:
        x0, x1 = lot.face, lot.face + lot.side * lot.depth
        bend = street.bend(max((lot.near + lot.far) / 2, 0))
        foot = np.array([(x0, lot.near), (x1, lot.near), (x1, lot.far), (x0, lot.far)]) + np.array((bend, 0))
        reach = lot.far - lot.near + lot.depth
        things.append(Thing(lot.face, lot.near, reach, _building(street, lot), (foot, 0.6, lot.height), order=lot.far))
    return things


def _building(street: Street, lot: Lot) -> Callable[[Canvas, Light, np.random.Generator], None]:
    return lambda canvas, light, rng: buildings.building(canvas, street, lot)


def _vehicle(street: Street, kind: Kind, x: float, z: float, heading: float) -> Thing:
    length, width, height = vehicles.size_of(kind)
    pose = vehicle_parts.Pose(x + street.bend(z), z, heading + np.arctan(2 * street.curve * z))

    def paint(canvas: Canvas, light: Light, rng: np.random.Generator) -> None:
        vehicles.vehicle(canvas, light, kind, pose, rng)

    return Thing(pose.x, z, length, paint, (pose.footprint(length, width), 0.1, height * 0.85))


def _cycle(street: Street, x: float, z: float, motor: bool, ridden: bool, side: bool) -> Thing:
    return _stand(street, x, z, people.cyclist, (0.4, 1.5 if ridden else 0.8), people.Cycle(motor, ridden, side))


def _person(street: Street, x: float, z: float) -> Thing:
    return _stand(street, x, z, people.pedestrian, (0.22, 1.6))


def _tree(street: Street, x: float, z: float, height: float, planted: bool) -> Thing:
    thing = _stand(street, x, z, plants.tree, (0.5 * height, 0), plants.Tree(height, planted))
    return replace(thing, shadow=plants.tree_shadow(thing.x, z, height))


def _barrier(street: Street, x: float, near: float, far: float, wall: bool) -> Thing:
    middle = (near + far) / 2
    x += street.bend(middle)
    foot = np.array([(x, near), (x + 0.1, near), (x, far)])

    def paint(canvas: Canvas, light: Light, rng: np.random.Generator) -> None:
        furniture.barrier(canvas, light, x, (near, far), wall, rng)

    return Thing(x, middle, far - near, paint, (foot, 0, 1.0), order=far)


def _traffic(street: Street, busy: float, rng: np.random.Generator) -> list[Thing]:
    things: list[Thing] = []
    drivable = street.road - street.parking
    lane = 2 * drivable / street.lanes
    kinds = [Kind.CAR, Kind.VAN, Kind.TRUCK, Kind.BUS, Kind.TRAM]
    for number in range(street.lanes):
        middle = (number + 0.5) * lane - drivable
        ours = middle > 0
        z = rng.uniform(5, 30) if ours else rng.uniform(4, 22)
        while z < 110:
            draw = rng.random()
            if draw < 0.10:
                things.append(_cycle(street, middle + 0.3 * lane, z, rng.random() < 0.5, True, False))
                z += rng.uniform(5, 25) / busy
                continue
            kind = kinds[rng.choice(5, p=[0.74, 0.1, 0.07, 0.07, 0.02])]
            z += vehicles.size_of(kind)[0] / 2
            things.append(_vehicle(street, kind, middle + rng.normal(0, 0.15), z, 0.0 if ours else np.pi))
            z += vehicles.size_of(kind)[0] / 2 + rng.uniform(3, 42) / busy
    for side in (-1, 1):
        if not street.parking or rng.random() < 0.12:
            continue
        z = rng.uniform(3, 14)
        while z < 95:
            blocked = street.cross and street.cross[0] - 4 < z < street.cross[1] + 4
            if not blocked and rng.random() < 0.72 and not (street.zebra and abs(z - street.zebra) < 6):
                kind = kinds[rng.choice(3, p=[0.84, 0.12, 0.04])]
                facing = 0.0 if side > 0 or rng.random() < 0.3 else np.pi
                things.append(_vehicle(street, kind, side * (street.road - street.parking / 2 - 0.05), z, facing))
            z += rng.uniform(5.6, 8.5)
    return things


def _pavement(street: Street, side: int, busy: float, rng: np.random.Generator) -> list[Thing]:
    things: list[Thing] = []
    width = street.pavements[(side + 1) // 2]
    kerb, outer = side * (street.road + 0.45), side * (street.outer(side) - 0.35)

    def free(z: float) -> bool:
        return not street.cross or not street.cross[0] - 1.5 < z < street.cross[1] + 1.5

    def place(x: float, z: float, painter: Callable[..., None], radius: float, height: float, *extra: object) -> None:
        if free(z):
            things.append(_stand(street, x, z, painter, (radius, height), *extra))

    for _ in range(rng.poisson(8 * busy)):  # people, often in twos and threes
        z, x = 3.5 + 50 * rng.random() ** 1.7, side * rng.uniform(street.road + 0.4, street.outer(side) - 0.2)
        for number in range(rng.choice([1, 2, 3], p=[0.68, 0.24, 0.08])):
            if free(z):
                things.append(_person(street, x + 0.6 * number * -side, z + rng.uniform(-0.2, 0.3)))
    if rng.random() < 0.85:
        spacing, z = rng.uniform(16, 30), rng.uniform(4, 20)
        while z < 110:
            place(kerb, z, furniture.lamp_post, 0.1, 6.0, -side)
            z += spacing
    for _ in range(rng.poisson(2.2)):
        place(kerb, rng.uniform(5, 60), furniture.sign_post, 0.1, 2.5)
    if rng.random() < 0.2:
        start = rng.uniform(4, 20)
        for number in range(rng.integers(3, 9)):
            place(kerb - side * 0.1, start + 1.8 * number, furniture.bollards, 0.08, 0.9)
    for _ in range(rng.poisson(1.0)):
        place(outer, rng.uniform(4, 45), furniture.bin_, 0.3, 1.0)
    for _ in range(rng.poisson(0.5)):
        place(outer, rng.uniform(5, 40), furniture.bench, 0.5, 0.8)
    for _ in range(rng.poisson(0.8)):
        place(outer, rng.uniform(4, 35), plants.pot_plant, 0.3, 0.8)
    if width > 3 and rng.random() < 0.35:
        for number in range(rng.integers(1, 4)):
            place(outer - side * 0.9, rng.uniform(6, 10) + 3.2 * number, furniture.cafe, 0.4, 0.7)
    for _ in range(rng.poisson(0.9)):
        z = rng.uniform(4, 45)
        if free(z):
            things.append(_cycle(street, outer, z, rng.random() < 0.25, False, rng.random() < 0.7))
    if rng.random() < 0.15:
        place(side * (street.road + 1), rng.uniform(4, 25), people.dog, 0.3, 0.5)
    planted = {"city": 0.3, "suburb": 0.5, "avenue": 0.95, "open": 0.4}[street.name]
    if width > 1.9 and rng.random() < planted:
        spacing, z, tall = rng.uniform(7, 14), rng.uniform(4, 16), rng.uniform(5, 11)
        while z < 110:
            height = tall * rng.uniform(0.8, 1.2)
            if free(z) and rng.random() < 0.9:
                things.append(_tree(street, kerb + side * 0.3, z, height, True))
            z += spacing
    return things


def _yard(street: Street, side: int, rng: np.random.Generator) -> list[Thing]:
    """Trees, bushes, walls and fences between and before the houses."""
    things: list[Thing] = []
    edge = street.outer(side)
    strip = street.verges[(side + 1) // 2]
    count = {"city": 1.0, "suburb": 9.0, "avenue": 3.0, "open": 16.0}[street.name]
    for _ in range(rng.poisson(count)):
        z = rng.uniform(5, 110)
        taken = [lot for lot in street.lots if lot.side == side and lot.near - 1 < z < lot.far + 1]
        reach = min(abs(lot.face) for lot in taken) - 0.8 if taken else edge + 16
        if reach < edge + 0.8 or (street.cross and street.cross[0] - 3 < z < street.cross[1] + 3):
            continue
        x = side * rng.uniform(edge + 0.6, reach)
        if rng.random() < 0.55:
            things.append(_tree(street, x, z, rng.uniform(3.5, 11), False))
        else:
            wide, high = rng.uniform(1, 3), rng.uniform(0.7, 1.8)
            things.append(_stand(street, x, z, plants.bush, (0.4 * wide, high * 0.7), (wide, high)))
    if strip > 1.2 and rng.random() < 0.6:
        wall, z = rng.random() < 0.5, rng.uniform(3, 12)
        while z < 80:
            end = z + rng.uniform(4, 9)
            if not (street.cross and z < street.cross[1] + 3 and end > street.cross[0] - 3):
                things.append(_barrier(street, side * (edge + 0.25), z, end, wall))
            z = end + rng.uniform(0.5, 4)
    return things


def _crossing(street: Street, busy: float, rng: np.random.Generator) -> list[Thing]:
    things: list[Thing] = []
    if street.zebra is not None:
        for _ in range(rng.poisson(2.5 * busy)):
            things.append(_person(street, rng.uniform(-street.road, street.road), street.zebra + rng.uniform(0.4, 2.8)))
        if rng.random() < 0.7:
            for side in (-1, 1):
                x, z = side * (street.road + 0.4), street.zebra - 0.6
                things.append(_stand(street, x, z, furniture.traffic_light, (0.15, 3.2)))
    if street.cross and rng.random() < 0.6:
        z = sum(street.cross) / 2
        for _ in range(rng.integers(1, 3)):
            toward = rng.random() < 0.5
            kind = Kind.CAR if rng.random() < 0.75 else Kind.VAN
            x = rng.uniform(-18, 18)
            things.append(_vehicle(street, kind, x, z + (1.7 if toward else -1.7), np.pi / 2 if toward else -np.pi / 2))
    if rng.random() < 0.06:  # someone in the road, where nobody expects them
        things.append(_person(street, rng.uniform(-street.road, street.road), rng.uniform(6, 30)))
    if rng.random() < 0.12:
        things.append(
            _cycle(street, rng.uniform(-0.8, 0.8) * street.road, rng.uniform(6, 25), rng.random() < 0.4, True, True)
        )
    return things
