"""Trees, bushes and potted plants: a rough outline filled with lit leaves."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

from ingest.scenes import noise
from ingest.scenes.canvas import Billboard, Canvas, box, limb
from ingest.scenes.kinds import Kind
from ingest.scenes.light import Light

_LEAVES = ((74, 102, 44), (56, 88, 42), (98, 120, 52), (64, 84, 58), (110, 112, 46))
_AUTUMN = ((176, 118, 42), (158, 78, 40), (186, 150, 60))


@dataclass(frozen=True)
class Tree:
    """Of which size (meters), and whether it was planted along a street."""

    height: float
    planted: bool


@dataclass(frozen=True)
class _Crown:
    """Leaves: of what, their color, and the blobs that they fill, (x, y, rx, ry) in meters."""

    kind: Kind
    leaf: np.ndarray
    blobs: list


def tree(canvas: Canvas, light: Light, x: float, z: float, what: Tree, rng: np.random.Generator) -> None:
    """A broad-leaved tree, a poplar or a conifer. Planted along a street it is broad-leaved, its crown cut high."""
    height, planted = what.height, what.planted
    board = Billboard(canvas.camera, x, z)
    form = "round" if planted else str(rng.choice(["round", "poplar", "conifer"], p=[0.6, 0.15, 0.25]))
    palette = _AUTUMN if rng.random() < 0.12 and form != "conifer" else _LEAVES
    leaf = np.array(palette[rng.integers(len(palette))]) * rng.uniform(0.75, 1.15)
    if form == "conifer":
        leaf = np.array((46, 70, 48)) * rng.uniform(0.8, 1.2)
    bark = light.upright(np.array((86, 72, 60)) * rng.uniform(0.7, 1.3))
    lean = rng.uniform(-0.06, 0.06) * height
    crown_seed = rng.random((26, 4))
    if not board.visible:
        return
    wide = height * {"round": 0.34, "poplar": 0.11, "conifer": 0.2}[form]
    start = height * {"round": 0.4 if planted else 0.28, "poplar": 0.1, "conifer": 0.1}[form]
    thick = 0.045 * height**0.8 + 0.06
    board.add(bark, limb((0, -0.02), (lean * 0.6, start + 0.3 * height), thick, thick * 0.55))
    if form == "round":
        for sign in (-1, 1):
            board.add(
                bark * 0.9,
                limb((lean * 0.3, start), (sign * wide * 0.5 + lean, start + 0.28 * height), thick * 0.5, thick * 0.2),
            )
    canvas.paint(board.parts, Kind.TREE, board.depth, rng, 0.14)
    blobs = []
    count = 18 if form == "round" else 26
    if height * board.scale < 40:  # so few pixels show no more
        count = 9
    for angle, reach, size, _ in crown_seed[:count].tolist():
        up = reach if form != "round" else 0.5 + 0.5 * np.sin(angle * 6.283) * np.sqrt(reach)
        if form == "round":
            side, radius = np.cos(angle * 6.283) * np.sqrt(reach) * 0.72, 0.3 + 0.26 * size
        elif form == "poplar":
            side, radius = (angle - 0.5) * np.sin(np.pi * np.clip(up, 0.05, 0.95)), 0.8
        else:
            side, radius = (angle - 0.5) * 1.5 * (1 - up), 0.12 + 0.5 * (1 - up)
        y = start + up * (height - start) * 0.94
        blobs.append((lean + side * wide, y, radius * wide, radius * wide * (0.85 if form != "poplar" else 1.6)))
    _foliage(canvas, light, board, _Crown(Kind.TREE, leaf, blobs), rng)


def bush(canvas: Canvas, light: Light, x: float, z: float, size: tuple[float, float], rng: np.random.Generator) -> None:
    """A bush or a piece of hedge. size: width and height, meters."""
    wide, height = size
    board = Billboard(canvas.camera, x, z)
    leaf = np.array(_LEAVES[rng.integers(len(_LEAVES))]) * rng.uniform(0.7, 1.1)
    spots = rng.random((12, 3))
    if not board.visible:
        return
    blobs = [
        ((a - 0.5) * wide, b * 0.6 * height, 0.25 * wide * (0.6 + c), 0.42 * height * (0.7 + 0.5 * c))
        for a, b, c in spots
    ]
    _foliage(canvas, light, board, _Crown(Kind.BUSH, leaf, blobs), rng)


def pot_plant(canvas: Canvas, light: Light, x: float, z: float, rng: np.random.Generator) -> None:
    """A plant in a tub: both count as the plant."""
    board = Billboard(canvas.camera, x, z)
    k, clay = (
        rng.uniform(0.7, 1.3),
        light.upright(np.array(((170, 96, 64), (120, 118, 114), (70, 66, 62))[rng.integers(3)])),
    )
    leaf = np.array(_LEAVES[rng.integers(len(_LEAVES))]) * rng.uniform(0.9, 1.25)
    spots = rng.random((9, 3))
    if not board.visible:
        return
    board.add(clay, np.array([(-0.2, 0), (0.2, 0), (0.28, 0.45), (-0.28, 0.45)]) * k)
    board.add(clay * 1.15, box(-0.3 * k, 0.4 * k, 0.3 * k, 0.5 * k))
    canvas.paint(board.parts, Kind.POT_PLANT, board.depth, rng, 0.06)
    blobs = [
        ((a - 0.5) * 0.6 * k, (0.55 + 0.55 * b) * k, 0.2 * k * (0.6 + c), 0.2 * k * (0.6 + c)) for a, b, c in spots
    ]
    _foliage(canvas, light, board, _Crown(Kind.POT_PLANT, leaf, blobs), rng)


def _foliage(canvas: Canvas, light: Light, board: Billboard, crown: _Crown, rng: np.random.Generator) -> None:
    """Leaves inside the union of the blobs, brighter towards the sun, with a ragged edge."""
    blobs, leaf = crown.blobs, crown.leaf
    spots = np.array(blobs)
    centers, radii = board.to_pixels(spots[:, :2]), spots[:, 2:] * board.scale
    window = canvas.window([centers - radii, centers + radii], margin=3 + int(0.3 * radii.max()))
    if window is None:
        return
    left, top, right, bottom = window
    shape = (bottom - top, right - left)
    # the coarse form is soft, so it is made small and enlarged; only the leaves are drawn at full size
    ratio = 1 / max(1.0, max(shape) / 96)
    small = (max(2, round(shape[1] * ratio)), max(2, round(shape[0] * ratio)))
    body, tone = np.zeros(small[::-1], np.uint8), np.full(small[::-1], 78, np.uint8)
    sunny = light.direction[0] * math.cos(canvas.camera.yaw) - light.direction[2] * math.sin(canvas.camera.yaw)
    size = float(radii[:, 0].max()) * ratio
    fixed = np.round((centers - np.array((left, top))) * (16 * ratio)).astype(int).tolist()
    spans = np.round(radii * (16 * ratio)).astype(int).tolist()
    shift = (round(16 * 0.22 * sunny * size), round(-16 * 0.25 * size))
    tones = rng.integers((78, 128), (122, 192), (len(blobs), 2)).tolist()
    for (x, y), (rx, ry), (dark, bright) in zip(fixed, spans, tones, strict=True):
        cv2.ellipse(body, (x, y), (rx, ry), 0, 0, 360, 255, cv2.FILLED, cv2.LINE_AA, 4)
        cv2.ellipse(tone, (x, y), (rx, ry), 0, 0, 360, dark, cv2.FILLED, cv2.LINE_AA, 4)
        lit_side = (x + shift[0], y + shift[1])
        cv2.ellipse(tone, lit_side, (rx * 5 // 8, ry * 5 // 8), 0, 0, 360, bright, cv2.FILLED, cv2.LINE_AA, 4)
    spread = max(0.5, 0.16 * size)
    tone = cv2.GaussianBlur(tone, (0, 0), spread)
    edge = cv2.GaussianBlur(body, (0, 0), max(0.4, spread * 0.7))
    ragged = noise.patch(
        "stain", small[1], small[0], max(0.7, size / 9), rng
    )  # boughs: breaks the blobs' round outline
    edge = np.clip(edge + 26 * ragged, 0, 255).astype(np.uint8)
    tone = np.clip(tone * (1 + 0.13 * ragged), 0, 255).astype(np.uint8)
    tone, edge = (cv2.resize(plane, shape[::-1], interpolation=cv2.INTER_LINEAR) for plane in (tone, edge))
    zoom = max(0.45, board.scale * 0.03)
    leaves = noise.patch("leaf", shape[0], shape[1], zoom, rng)
    cover = edge * np.float32(1 / 255) + 0.14 * leaves
    alpha = np.clip((cover - 0.5) * max(3.0, min(12.0, board.scale * 0.1)) + 0.5, 0, 1).astype(np.float32)
    level = tone.astype(np.float32) / 128 * (1 + 0.28 * leaves)
    lit = light.ambient * 0.95 + light.sun * 0.55
    rgb = np.clip(level, 0.12, 2.2)[..., None] * (leaf * lit).astype(np.float32)
    canvas.blend(window, rgb, alpha, crown.kind, board.depth)


def tree_shadow(x: float, z: float, height: float) -> tuple[np.ndarray, float, float]:
    """Footprint and heights of a crown, for `ground.cast_shadows`."""
    radius = 0.28 * height
    turn = np.linspace(0, 2 * np.pi, 12, endpoint=False)
    return np.stack([x + radius * np.cos(turn), z + radius * np.sin(turn)], 1), 0.45 * height, 0.85 * height
