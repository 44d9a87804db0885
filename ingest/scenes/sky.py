"""Sky, clouds, the sun's glow, and what stands at the end of the view: hills and a skyline."""

from __future__ import annotations

import cv2
import numpy as np

from ingest.scenes import noise
from ingest.scenes.canvas import Canvas, Part, box, disc, limb
from ingest.scenes.kinds import Kind


def sky(canvas: Canvas, rng: np.random.Generator) -> None:
    """Fills the whole picture: zenith to horizon, clouds that shrink towards the horizon, a glow around the sun."""
    camera, light = canvas.camera, canvas.light
    height, width = canvas.kinds.shape
    rows = np.arange(height, dtype=np.float32)
    up = np.clip((camera.horizon - rows) / (0.75 * camera.focal), 0, 1) ** 0.6
    column = light.horizon * (1 - up[:, None]) + light.zenith * up[:, None]
    canvas.rgb[:] = column[:, None].astype(np.float32)
    if light.hour == "mist":
        return
    top = int(np.clip(camera.horizon + 0.05 * height, 1, height))
    # a cloud deck seen from below: the nearer to the horizon, the smaller
    lift = 1 / np.maximum((camera.horizon - rows[:top]) / camera.focal, 0.04)
    columns = (np.arange(width, dtype=np.float32) - camera.center) / camera.focal
    scale, offset = rng.uniform(25, 60), rng.uniform(0, noise.SIDE, 2)
    deck = noise.at(
        "cloud",
        columns[None] * lift[:, None] * scale + offset[0],
        np.broadcast_to(lift[:, None] * scale * 1.4, (top, width)) + offset[1],
    )
    cover = rng.uniform(-0.6, 0.9) if light.hour != "overcast" else 1.6
    cloud = np.clip((deck + cover - 0.5) * 0.9, 0, 1) * np.clip(up[:top, None] * 4, 0, 1) * rng.uniform(0.5, 0.95)
    lit = light.horizon * 0.35 + np.array((232, 234, 238)) * (0.5 if light.lamps else 0.66)
    shade = 1 - 0.16 * np.clip(deck + 0.3, 0, 2)
    canvas.rgb[:top] += (np.minimum(lit, 252) * shade[..., None] - canvas.rgb[:top]) * cloud[..., None]
    _glow(canvas)


def _glow(canvas: Canvas) -> None:
    light, camera = canvas.light, canvas.camera
    seen = camera.to_camera(light.direction[None] * 1e4)[0]
    if seen[2] <= 0 or light.sun.max() < 0.2:
        return
    x, y = camera.to_pixels(seen[None])[0]
    rows, columns = np.mgrid[0 : camera.height, 0 : camera.width].astype(np.float32)
    near = np.exp(-np.hypot(columns - x, rows - y) / (0.22 * camera.focal))
    canvas.rgb += near[..., None] * (np.array((255, 244, 220)) - canvas.rgb) * 0.75


def far(canvas: Canvas, rng: np.random.Generator) -> None:
    """Hills, then the skyline: closes the view where the street ends."""
    camera, light = canvas.camera, canvas.light
    height, width = canvas.kinds.shape
    unit = camera.focal / 100  # pixels of a meter at 100 m
    if rng.random() < 0.45:
        xs = np.linspace(-0.1 * width, 1.1 * width, 60)
        phases, waves = rng.uniform(0, 6.3, 4), rng.uniform(0.5, 5, 4)
        ridge = sum(
            np.sin(xs / width * wave * 3 + phase) / (1 + wave) for wave, phase in zip(waves, phases, strict=True)
        )
        line = camera.horizon + (xs - camera.center) * np.tan(camera.roll) - (1.1 + ridge) * rng.uniform(2, 9) * unit
        shape = np.concatenate([np.stack([xs, line], 1), [(1.1 * width, height), (-0.1 * width, height)]])
        color = light.upright(np.array((78, 98, 70)) * rng.uniform(0.7, 1.2))
        canvas.paint([Part([shape], color)], Kind.HILL, rng.uniform(120, 260), rng, 0.12)
    density, tallest = rng.uniform(0.3, 1.2), rng.choice([14.0, 26.0, 60.0], p=[0.45, 0.35, 0.2])
    count = int(22 * density * max(1.0, width / height))
    for _ in range(count):
        parts: list[Part]
        wide, high = rng.uniform(5, 16) * unit, rng.uniform(0.35, 1) * tallest * unit
        left = rng.uniform(-0.05, 1.05) * width
        ground = camera.horizon + (left - camera.center) * np.tan(camera.roll) + 0.03 * height
        tone, style = rng.normal(0, 14, 3), rng.random()
        base = np.array(((150, 146, 140), (168, 120, 98), (120, 130, 146))[int(style * 3)]) + tone
        leafy = rng.random() < 0.35
        distance = rng.uniform(110, 230)
        if leafy:  # a clump of far trees
            rings = [
                disc(left + rng.uniform(-1, 1) * wide, ground - rng.uniform(2, 5) * unit, wide * 0.7, 5 * unit)
                for _ in range(3)
            ]
            parts = [Part([ring], light.upright(np.array((58, 84, 44)) + tone * 0.5)) for ring in rings]
            canvas.paint(
                [*parts, Part([box(left - wide, ground - 2 * unit, left + wide, ground)], parts[0].color)],
                Kind.TREE,
                distance,
                rng,
                0.18,
            )
            continue
        parts = [Part([box(left, ground - high - 0.03 * height, left + wide, ground)], light.upright(base))]
        if unit > 1.2:
            dark = light.upright(base * 0.6)
            for row in np.arange(ground - high, ground, 3.4 * unit):
                parts.append(Part([box(left + 0.1 * wide, row, left + 0.9 * wide, row + 1.3 * unit)], dark, False))
        canvas.paint(parts, Kind.SKYSCRAPER if high > 20 * unit else Kind.BUILDING, distance, rng, 0.03)


def flyers(canvas: Canvas, rng: np.random.Generator) -> None:
    """Now and then birds or an aeroplane above the roofs."""
    camera, light = canvas.camera, canvas.light
    if rng.random() < 0.10:
        for _ in range(rng.integers(1, 5)):
            x, y = rng.uniform(0, 1) * camera.width, camera.horizon * rng.uniform(0.05, 0.6)
            span, lift = camera.focal * rng.uniform(0.008, 0.03), rng.uniform(-0.5, 0.6)
            color = light.upright(np.array((60, 58, 60)) * rng.uniform(0.6, 2.2))
            parts = [Part([disc(x, y, span * 0.32, span * 0.13)], color)]
            parts += [
                Part([limb((x, y), (x + side * span, y - lift * span), span * 0.13, span * 0.03)], color)
                for side in (-1, 1)
            ]
            canvas.paint(parts, Kind.BIRD, 30, rng, 0.1)
    if rng.random() < 0.05:
        x, y = rng.uniform(0.1, 0.9) * camera.width, camera.horizon * rng.uniform(0.08, 0.5)
        size, face = camera.focal * rng.uniform(0.03, 0.08), rng.choice([-1, 1])
        gray, dark = light.upright(np.array((214, 216, 222))), light.upright(np.array((120, 126, 140)))
        parts = [Part([limb((x - face * size, y), (x + face * size, y), size * 0.09, size * 0.12)], gray)]
        tail = np.array([(-0.98, 0), (-0.75, 0), (-0.9, -0.34), (-1.06, -0.34)]) * (size * face, size) + (x, y)
        wing = np.array([(0.25, 0), (-0.1, 0), (-0.55, 0.34), (-0.4, 0.34)]) * (size * face, size) + (x, y)
        parts += [Part([tail], dark), Part([wing], dark)]
        canvas.paint(parts, Kind.AEROPLANE, 60, rng, 0.02)


def blur_towards(image: np.ndarray, sigma: float) -> np.ndarray:
    """The lens' softness."""
    return cv2.GaussianBlur(image, (0, 0), sigma) if sigma > 0.2 else image
