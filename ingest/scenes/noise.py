"""Tileable noise, made once a process: every surface's texture is a window into one of these tiles."""

from __future__ import annotations

import math
from functools import cache

import cv2
import numpy as np

SIDE = 512
# name -> (exponent of the amplitude spectrum's fall, shortest and longest wave in pixels)
_SPECTRA = {
    "cloud": (1.7, 3.0, 512.0),
    "stain": (1.2, 2.0, 256.0),  # plaster, asphalt patches
    "leaf": (0.3, 4.0, 24.0),
    "grain": (0.0, 2.0, 8.0),  # asphalt, brick, cloth
}


@cache
def tile(name: str) -> np.ndarray:
    """(SIDE, SIDE) float32, mean 0, deviation 1, wraps at all edges."""
    fall, shortest, longest = _SPECTRA[name]
    rng = np.random.Generator(np.random.Philox(key=sum(name.encode())))
    fy, fx = np.fft.fftfreq(SIDE)[:, None], np.fft.rfftfreq(SIDE)[None, :]
    frequency = np.maximum(np.hypot(fx, fy), 1e-9)
    amplitude = np.where((frequency >= 1 / longest) & (frequency <= 1 / shortest), frequency**-fall, 0)
    wave = np.fft.irfft2(amplitude * np.exp(2j * np.pi * rng.random(amplitude.shape)), s=(SIDE, SIDE))
    wave -= wave.mean()
    return (wave / wave.std()).astype(np.float32)


def patch(name: str, height: int, width: int, zoom: float, rng: np.random.Generator) -> np.ndarray:
    """A window (height, width) float32 at a random place of the tile; `zoom` output pixels a tile pixel."""
    top, left = rng.integers(0, SIDE, 2).tolist()
    rows = height if zoom == 1 else math.ceil(height / zoom) + 1
    columns = width if zoom == 1 else math.ceil(width / zoom) + 1
    if max(rows, columns) <= SIDE:
        window = _doubled(name)[top : top + rows, left : left + columns]
    else:
        window = tile(name).take(np.arange(top, top + rows), 0, mode="wrap")
        window = window.take(np.arange(left, left + columns), 1, mode="wrap")
    if zoom == 1:
        return window
    return cv2.resize(window, (width, height), interpolation=cv2.INTER_LINEAR if zoom > 1 else cv2.INTER_AREA)


@cache
def _doubled(name: str) -> np.ndarray:
    """The tile beside itself, so that a window of up to SIDE pixels is a plain slice."""
    return np.tile(tile(name), (2, 2))


def at(name: str, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The tile sampled at tile coordinates x, y (H, W) float32, bilinear, wrapping."""
    return cv2.remap(
        tile(name),
        np.mod(x, SIDE).astype(np.float32),
        np.mod(y, SIDE).astype(np.float32),
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_WRAP,
    )
