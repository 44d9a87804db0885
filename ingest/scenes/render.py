"""One scene, a pure function of (seed, index, size)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ingest.scenes import ground, lens, light, sky, street, world
from ingest.scenes.camera import Camera
from ingest.scenes.canvas import Canvas


@dataclass(frozen=True)
class Scene:
    """`image` (H, W, 3) uint8 RGB; `kinds` (H, W) uint8, a `Kind` a pixel; `things` (H, W) uint16, one id a thing."""

    image: np.ndarray
    kinds: np.ndarray
    things: np.ndarray


def scene(seed: int, index: int, height: int, width: int) -> Scene:
    """Draws scene `index` of the world `seed`. The same street whatever the size; only the texture is finer."""
    plan, paint = (np.random.Generator(np.random.Philox(key=[seed, 2 * index + part])) for part in (0, 1))
    hour, road = light.pick(plan), street.pick(plan)
    camera, in_car = _camera(road, height, width, plan)
    things = world.fill(road, plan)
    canvas = Canvas(camera, hour)
    sky.sky(canvas, paint)
    sky.far(canvas, paint)
    sky.flyers(canvas, paint)
    canvas.things[:] = 0  # nothing so far can be counted
    shadow = ground.cast_shadows(canvas, [thing.shadow for thing in things if camera.sees(thing.x, thing.z, 30)])
    ground.ground(canvas, road, shadow, paint)
    for number, thing in enumerate(things):
        if not camera.sees(thing.x, thing.z, thing.radius):
            continue
        own = np.random.Generator(np.random.Philox(key=[seed, (index << 20) + number]))
        thing.paint(canvas, world.shade(road, thing, hour), own)
    if in_car:
        lens.bonnet(canvas, paint)
    return Scene(lens.expose(canvas.rgb, paint), canvas.kinds, canvas.things)


def _camera(road: street.Street, height: int, width: int, rng: np.random.Generator) -> tuple[Camera, bool]:
    """A dash camera, now and then a walker's or one on a bus; also whether it sees its own bonnet."""
    drivable = road.road - road.parking
    lane = 2 * drivable / road.lanes
    place = rng.random()
    y = rng.uniform(1.15, 1.9)
    x = drivable - lane / 2 + rng.normal(0, 0.3)
    if place < 0.16:  # on the pavement
        side = int(rng.choice([-1, 1]))
        x, y = side * (road.road + rng.uniform(0.5, 1.2)), rng.uniform(1.4, 1.8)
    elif place < 0.32:  # from a bus or a truck
        y = rng.uniform(2.2, 4.0)
    elif place < 0.5:
        x = rng.normal(0, 1.0)
    yaw = float(np.radians(rng.normal(0, 7) if rng.random() < 0.8 else rng.uniform(-28, 28)))
    camera = Camera(
        height=height,
        width=width,
        focal=height * float(rng.uniform(0.85, 1.35)),
        center=width * float(rng.uniform(0.44, 0.56)),
        horizon=height * float(rng.uniform(0.36, 0.56)),
        x=float(x),
        y=float(y),
        yaw=yaw,
        roll=float(np.radians(np.clip(rng.normal(0, 1.0), -3, 3))),
    )
    return camera, place > 0.5 and bool(rng.random() < 0.5)
