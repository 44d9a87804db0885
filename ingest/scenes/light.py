"""The hour and the weather: sun, sky light, haze. Every surface's color passes through here."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# name -> share of scenes, zenith, horizon, sun color, ambient color, sun height range in degrees, haze per meter
_HOURS: dict[str, tuple[float, tuple, tuple, tuple, tuple, tuple, tuple]] = {
    "noon": (0.34, (62, 118, 196), (178, 208, 236), (0.78, 0.75, 0.68), (0.42, 0.45, 0.50), (38, 65), (0.001, 0.005)),
    "afternoon": (
        0.24,
        (84, 128, 188),
        (226, 214, 190),
        (0.86, 0.70, 0.48),
        (0.38, 0.39, 0.44),
        (16, 34),
        (0.002, 0.008),
    ),
    "overcast": (0.24, (150, 158, 168), (206, 210, 214), (0.0, 0.0, 0.0), (0.76, 0.78, 0.80), (40, 60), (0.004, 0.013)),
    "mist": (0.07, (188, 194, 198), (214, 217, 219), (0.05, 0.05, 0.05), (0.72, 0.74, 0.76), (30, 50), (0.014, 0.035)),
    "dusk": (0.11, (58, 64, 112), (236, 160, 112), (0.46, 0.28, 0.14), (0.30, 0.28, 0.36), (6, 14), (0.002, 0.009)),
}


@dataclass(frozen=True)
class Light:
    """Colors are RGB; factors multiply a surface's own color."""

    hour: str
    zenith: np.ndarray  # (3,) 0..255
    horizon: np.ndarray  # (3,) 0..255, also the haze's color
    sun: np.ndarray  # (3,) factor on a surface that faces the sun
    ambient: np.ndarray  # (3,) factor everywhere
    direction: np.ndarray  # (3,) unit vector towards the sun
    haze: float  # per meter

    def on(self, color: np.ndarray, normal: np.ndarray) -> np.ndarray:
        """The color (3,) of a lit surface with that unit normal (3,)."""
        return np.asarray(color) * (self.ambient + self.sun * max(0.0, float(self.direction @ normal)))

    def upright(self, color: np.ndarray) -> np.ndarray:
        """The color of something round that stands, such as a person or a pole: its lit side faces the sun."""
        return np.asarray(color) * (self.ambient + self.sun * 0.55)

    def veil(self, distance: float | np.ndarray) -> np.ndarray:
        """How much of the haze's color covers what is that far away, 0..1."""
        return 1 - np.exp(-self.haze * np.asarray(distance, np.float32))

    @property
    def lamps(self) -> bool:
        return self.hour == "dusk"


def pick(rng: np.random.Generator) -> Light:
    """A random hour."""
    names = list(_HOURS)
    hour = names[rng.choice(len(names), p=[_HOURS[name][0] for name in names])]
    _, zenith, horizon, sun, ambient, heights, hazes = _HOURS[hour]
    height, azimuth = np.radians(rng.uniform(*heights)), rng.uniform(0, 2 * np.pi)
    tint = 1 + rng.normal(0, 0.035, 3)
    return Light(
        hour=hour,
        zenith=np.array(zenith) * tint * rng.uniform(0.88, 1.08),
        horizon=np.clip(np.array(horizon) * tint * rng.uniform(0.94, 1.06), 0, 250),
        sun=np.array(sun) * rng.uniform(0.75, 1.1),
        ambient=np.array(ambient) * tint * rng.uniform(0.9, 1.1),
        direction=np.array([np.cos(height) * np.sin(azimuth), np.sin(height), np.cos(height) * np.cos(azimuth)]),
        haze=float(rng.uniform(*hazes)),
    )
