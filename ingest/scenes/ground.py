"""Road, pavement and yards: every pixel below the horizon is traced to the ground and colored there."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from ingest.scenes import noise
from ingest.scenes.canvas import Canvas, fill
from ingest.scenes.kinds import Kind
from ingest.scenes.street import Street

_GRAY = np.array((1.0, 1.0, 1.02))


@dataclass(frozen=True)
class _Spots:
    """What each pixel sees of the ground, float32 [H, W] each, in meters."""

    x: np.ndarray
    z: np.ndarray
    across: np.ndarray
    """How much of the ground a pixel covers, to the right and away from the lens."""
    along: np.ndarray


def ground(canvas: Canvas, street: Street, shadow: np.ndarray, rng: np.random.Generator) -> None:
    """Paints all ground. `shadow` (H, W) float32: 1 where the sun does not reach."""
    camera, light = canvas.camera, canvas.light
    x, z, depth = camera.ground()
    rows = np.flatnonzero((depth < 900).any(1))
    if rows.size == 0:
        return
    top = int(rows[0])
    x, z, depth = x[top:], z[top:], depth[top:]
    seen = depth < 900
    depth = np.where(seen, depth, 900).astype(np.float32)
    x = np.where(seen, x - street.curve * np.square(np.clip(z, 0, 150)), 0).astype(np.float32)
    z = np.where(seen, z, 900).astype(np.float32)
    across = depth / np.float32(camera.focal)  # meters a pixel covers
    along = depth * depth / np.float32(camera.focal * camera.y)

    road = _between(x, -street.road, street.road, across)
    paved = _between(x, -street.outer(-1), street.outer(1), across)
    if street.cross:
        low, high = street.cross
        road = np.maximum(road, _between(z, low, high, along))
        paved = np.maximum(paved, _between(z, low - 2, high + 2, along))
    spots = _Spots(x, z, across, along)
    surfaces = [_yard(street, spots, rng), _pavement(street, spots, rng)]
    asphalt = _asphalt(street, spots, rng)
    _markings(street, asphalt, spots, rng)

    rgb = surfaces[0]
    rgb += (surfaces[1] - rgb) * paved[..., None]
    rgb += (asphalt - rgb) * road[..., None]
    level = light.ambient + light.sun * light.direction[1] * (1 - shadow[top:, :, None])
    rgb *= level.astype(np.float32)
    veil = light.veil(depth)[..., None].astype(np.float32)
    rgb += (light.horizon.astype(np.float32) - rgb) * veil
    canvas.rgb[top:][seen] = rgb[seen]
    yard = Kind.GRASS if street.yard == "grass" else Kind.PAVEMENT
    kinds = np.where(road >= 0.5, Kind.ROAD, np.where(paved >= 0.5, Kind.PAVEMENT, yard))
    canvas.kinds[top:][seen] = kinds[seen]


def cast_shadows(canvas: Canvas, things: list[tuple[np.ndarray, float, float]]) -> np.ndarray:
    """The shadow map (H, W) float32. Each thing: footprint (N, 2) of X, Z; from and to which height it stands."""
    camera, light = canvas.camera, canvas.light
    mask = np.zeros(canvas.kinds.shape, np.uint8)
    contact = np.zeros(canvas.kinds.shape, np.uint8)
    shift = -np.array((light.direction[0], light.direction[2])) / max(light.direction[1], 0.08)
    sunny = light.sun.max() > 0.2
    for foot, low, high in things:
        if low < 0.5:
            _drop(camera, contact, foot)
        if sunny:
            both = np.concatenate([foot + shift * low, foot + shift * high]).astype(np.float32)
            _drop(camera, mask, cv2.convexHull(both)[:, 0])
    softness = max(0.4, camera.focal / 400)
    contact = cv2.GaussianBlur(contact, (0, 0), softness * 2)
    mask = cv2.GaussianBlur(mask, (0, 0), softness)
    return np.maximum(mask * np.float32(1 / 255), contact * np.float32(0.9 / 255))


def _drop(camera, mask: np.ndarray, shape: np.ndarray) -> None:
    flat = np.stack([shape[:, 0], np.zeros(len(shape)), shape[:, 1]], axis=1)
    polygon = camera.polygon(flat)
    if polygon is not None:
        fill(mask, [np.clip(polygon, -2e5, 2e5)])


def _between(value: np.ndarray, low: float, high: float, footprint: np.ndarray) -> np.ndarray:
    """Which share of each pixel lies between two lines, 0..1: anti-aliased by the pixel's footprint."""
    return np.clip((value - low) / footprint + 0.5, 0, 1) * np.clip((high - value) / footprint + 0.5, 0, 1)


def _texture(name: str, x: np.ndarray, z: np.ndarray, per_meter: float, fine: np.ndarray, shift: np.ndarray):
    """Noise fixed to the ground, fading where a pixel covers more than the noise can show."""
    fade = np.clip(1.5 / (per_meter * fine), 0, 1)
    return noise.at(name, x * per_meter + shift[0], z * per_meter + shift[1]) * fade


def _asphalt(street: Street, spots: _Spots, rng: np.random.Generator) -> np.ndarray:
    x, z, across, along = spots.x, spots.z, spots.across, spots.along
    shift = rng.uniform(0, noise.SIDE, 2)
    base = rng.uniform(78, 150) * (_GRAY + rng.normal(0, 0.02, 3))
    tone = 1 + 0.10 * _texture("grain", x, z, 22, along, shift) + 0.07 * _texture("stain", x, z, 5, along * 0.3, shift)
    if across.min() < 0.006:  # large pictures show the single stones
        tone += 0.09 * _texture("grain", x, z, 90, along, shift)
    if street.lanes:  # two darker tracks a lane, where the tyres run
        lane = (2 * (street.road - street.parking)) / street.lanes
        phase = np.mod(x + street.road, lane) / lane
        tone -= rng.uniform(0, 0.10) * (np.exp(-np.square((phase - 0.28) * 9)) + np.exp(-np.square((phase - 0.72) * 9)))
    for _ in range(rng.integers(0, 4)):  # mended patches
        left, near = rng.uniform(-street.road, street.road), rng.uniform(3, 25)
        spot = _between(x, left, left + rng.uniform(0.6, 3), across) * _between(
            z, near, near + rng.uniform(1, 6), along
        )
        tone *= 1 + spot * rng.choice([-0.25, -0.15, 0.12])
    for _ in range(rng.integers(0, 3)):  # manhole covers
        left, near = rng.uniform(-street.road, street.road), rng.uniform(3, 30)
        tone *= 1 - 0.35 * (np.square(x - left) + np.square(z - near) < 0.13)
    return (tone[..., None] * base).astype(np.float32)


def _pavement(street: Street, spots: _Spots, rng: np.random.Generator) -> np.ndarray:
    x, z, across, along = spots.x, spots.z, spots.across, spots.along
    shift = rng.uniform(0, noise.SIDE, 2)
    tints = ((1.0, 0.99, 0.97), (1.0, 0.98, 1.0), (1.08, 0.94, 0.88), (1.03, 1.0, 0.9))
    tint = np.array(tints[rng.integers(len(tints))])
    base = rng.uniform(110, 188) * tint
    tone = 1 + 0.05 * _texture("grain", x, z, 16, along, shift) + 0.08 * _texture("stain", x, z, 8, along * 0.3, shift)
    slab = rng.choice([0.4, 0.6, 1.0])
    joint = 0.035
    lines = np.maximum(
        (np.mod(x, slab) < joint) * np.clip(joint / across, 0, 1),
        (np.mod(z, slab) < joint) * np.clip(joint / along, 0, 1),
    )
    tone -= 0.22 * np.maximum(lines, 0)
    for side in (-1, 1):  # kerb stones and the gutter's shadow
        tone += 0.16 * _between(x, side * street.road - 0.16, side * street.road + 0.16, across)
    return (tone[..., None] * base).astype(np.float32)


def _yard(street: Street, spots: _Spots, rng: np.random.Generator) -> np.ndarray:
    x, z, along = spots.x, spots.z, spots.along
    shift = rng.uniform(0, noise.SIDE, 2)
    if street.yard == "grass":
        base = np.array((96, 122, 58)) * rng.uniform(0.75, 1.15) + (rng.uniform(-10, 40), 0, 0)
        tone = (
            1 + 0.20 * _texture("grain", x, z, 14, along, shift) + 0.16 * _texture("stain", x, z, 6, along * 0.3, shift)
        )
    else:
        base = rng.uniform(100, 160) * np.array((1.04, 1.0, 0.94))
        tone = (
            1 + 0.10 * _texture("grain", x, z, 10, along, shift) + 0.12 * _texture("stain", x, z, 8, along * 0.3, shift)
        )
    return (tone[..., None] * base).astype(np.float32)


def _markings(street: Street, asphalt: np.ndarray, spots: _Spots, rng: np.random.Generator) -> None:
    """Lane lines, edge lines, a zebra and a stop line, worn."""
    x, z, across, along = spots.x, spots.z, spots.across, spots.along
    white = np.array((226, 224, 214)) * rng.uniform(0.85, 1.0) * np.array((1, 1, rng.choice([1.0, 1.0, 0.62])))
    drivable = street.road - street.parking
    lane = 2 * drivable / street.lanes
    paint = np.zeros_like(x)
    if rng.random() < 0.88:
        wide, period, dash = rng.uniform(0.06, 0.1), rng.uniform(6, 10), rng.uniform(2.5, 4.5)
        phase = rng.uniform(0, period)
        on = _between(np.mod(z + phase, period), 0, dash, along)
        for number in range(1, street.lanes):
            middle = number * lane - drivable
            solid = street.lanes % 2 == 0 and number == street.lanes // 2 and rng.random() < 0.4
            line = _between(x, middle - wide, middle + wide, across)
            paint = np.maximum(paint, line if solid else line * on)
        if rng.random() < 0.6:
            for side in (-1, 1):
                edge = side * (drivable - 0.15)
                paint = np.maximum(paint, _between(x, edge - wide, edge + wide, across))
        if street.cross:
            paint *= 1 - _between(z, street.cross[0] - 1, street.cross[1] + 1, along)
    if street.zebra is not None:
        near, stripe = street.zebra, rng.uniform(0.45, 0.6)
        band = _between(z, near, near + 3.2, along)
        bars = _between(np.mod(x + street.road, 2 * stripe), 0, stripe, across) * (np.abs(x) < street.road - 0.2)
        paint = np.maximum(paint * (1 - band), band * bars)
        paint = np.maximum(paint, _between(z, near - 1.3, near - 0.95, along) * _between(x, 0, drivable, across))
    shift = rng.uniform(0, noise.SIDE, 2)
    worn = np.clip(0.92 + 0.22 * noise.at("stain", x * 20 + shift[0], z * 9 + shift[1]), 0.2, 1)
    asphalt += (white - asphalt) * (paint * worn * rng.uniform(0.7, 1.0))[..., None]
