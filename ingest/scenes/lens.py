"""What the camera adds: its own bonnet, softness, exposure, vignetting, noise."""

from __future__ import annotations

import cv2
import numpy as np

from ingest.scenes import noise
from ingest.scenes.canvas import CIRCLE, Canvas, Part
from ingest.scenes.kinds import Kind


def bonnet(canvas: Canvas, rng: np.random.Generator) -> None:
    """The front of the camera's own car along the lower edge."""
    height, width = canvas.kinds.shape
    rise, paint = rng.uniform(0.05, 0.13) * height, np.array((60, 62, 68)) * rng.uniform(0.4, 2.4)
    color = canvas.light.on(paint, np.array((0.0, 1.0, 0.0)))
    center = width * rng.uniform(0.4, 0.6)
    dome = CIRCLE * (0.66 * width, 1.6 * rise) + (center, height + 0.6 * rise)
    glint = CIRCLE * (0.5 * width, 0.5 * rise) + (center, height - 0.25 * rise)
    parts = [Part([dome], color), Part([glint], color * 0.6 + canvas.light.horizon * 0.4, False)]
    canvas.paint(parts, Kind.BONNET, 0.5, rng, 0.02)


def expose(rgb: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Scene light (H, W, 3) float32 0..255 -> the camera's uint8 picture."""
    height, width = rgb.shape[:2]
    sigma = rng.uniform(0.25, 0.75) * max(1.0, height / 512)
    rgb = cv2.GaussianBlur(rgb, (0, 0), sigma) if sigma > 0.3 else rgb
    # half-hearted automatic exposure: dusk stays darker than noon, but nothing drowns
    gain = (rng.uniform(96, 130) / max(float(rgb.mean()), 20.0)) ** 0.65 * (1 + rng.normal(0, 0.025, 3))
    contrast, dark = rng.uniform(0.85, 1.15), rng.uniform(0, 0.25)
    rows = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    columns = np.linspace(-1, 1, width, dtype=np.float32)[None, :]
    fall = 1 - dark * 0.5 * (rows * rows + columns * columns)
    out = (rgb * gain.astype(np.float32)) * fall[..., None]
    out = (out - 112) * np.float32(contrast) + 112
    level = rng.uniform(0.8, 4.5)
    speckle = np.stack([noise.patch("grain", height, width, 1.0, rng) for _ in range(3)], axis=2)
    out += speckle * np.float32(level) * (0.6 + 0.4 * np.sqrt(np.clip(out, 0, 255) * np.float32(1 / 255)))
    return np.clip(out + 0.5, 0, 255).astype(np.uint8)
