"""A pinhole camera above a flat ground. World axes in meters: X right, Y up, Z along the street, ground at Y = 0."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

NEAR = 0.4  # meters: what is closer to the lens is clipped away


@dataclass(frozen=True)
class Camera:
    """Pixel (0, 0) is the center of the top left pixel, as in OpenCV."""

    height: int  # of the image, pixels
    width: int
    focal: float  # pixels
    center: float  # column of the optical axis
    horizon: float  # row of the horizon at the optical axis
    x: float  # where the lens is, meters right of the street's middle
    y: float  # meters above the ground
    yaw: float  # radians, to the right
    roll: float  # radians, clockwise in the picture

    @cached_property
    def _turn(self) -> np.ndarray:
        """World directions -> camera axes: right, down, forward. (3, 3)"""
        sin, cos = np.sin(self.yaw), np.cos(self.yaw)
        return np.array([[cos, 0.0, -sin], [0.0, -1.0, 0.0], [sin, 0.0, cos]])

    @cached_property
    def _lens(self) -> np.ndarray:
        """Camera axes -> homogeneous pixels. (3, 3)"""
        sin, cos = self.focal * np.sin(self.roll), self.focal * np.cos(self.roll)
        return np.array([[cos, -sin, self.center], [sin, cos, self.horizon], [0.0, 0.0, 1.0]])

    def to_camera(self, points: np.ndarray) -> np.ndarray:
        """World (N, 3) -> camera axes (N, 3): right, down, forward."""
        return (points - (self.x, self.y, 0.0)) @ self._turn.T

    def to_pixels(self, points: np.ndarray) -> np.ndarray:
        """Camera axes (N, 3), all in front of the lens -> pixels (N, 2)."""
        seen = points @ self._lens.T
        return seen[:, :2] / seen[:, 2:]

    def polygon(self, points: np.ndarray) -> np.ndarray | None:
        """World polygon (N, 3) -> pixel polygon (M, 2), clipped at the near plane; None when it is behind the lens."""
        seen = self.to_camera(points)
        depth = seen[:, 2]
        if depth.min() >= NEAR:
            return self.to_pixels(seen)
        if depth.max() < NEAR:
            return None
        kept = []
        for here, there in zip(seen, np.roll(seen, -1, 0), strict=True):
            if here[2] >= NEAR:
                kept.append(here)
            if (here[2] >= NEAR) != (there[2] >= NEAR):
                kept.append(here + (there - here) * (NEAR - here[2]) / (there[2] - here[2]))
        return self.to_pixels(np.array(kept))

    def plane(self, origin: np.ndarray, along: np.ndarray, up: np.ndarray) -> np.ndarray:
        """The 3x3 homography (a, b, 1) -> pixels of the plane origin + a * along + b * up, all world vectors (3,)."""
        base = self.to_camera(np.stack([origin, origin + along, origin + up]))
        axes = np.stack([base[1] - base[0], base[2] - base[0], base[0]], axis=1)
        return self._lens @ axes

    def distance(self, x: float, z: float) -> float:
        """Depth of a point on the ground along the optical axis, meters; below NEAR it cannot be seen."""
        return (x - self.x) * float(np.sin(self.yaw)) + z * float(np.cos(self.yaw))

    def sees(self, x: float, z: float, radius: float) -> bool:
        """False when all within `radius` meters of a point on the ground is outside the picture for certain."""
        sin, cos = float(np.sin(self.yaw)), float(np.cos(self.yaw))
        right, forward = (x - self.x) * cos - z * sin, (x - self.x) * sin + z * cos
        if forward + radius < NEAR:
            return False
        slack = 0.06 * self.width  # for the roll
        left, over = (-self.center - slack) / self.focal, (self.width - self.center + slack) / self.focal
        return left * (forward + radius) - radius < right < over * (forward + radius) + radius

    def ground(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Where each pixel's ray meets the ground: X, Z, depth, each (H, W) float32; depth is inf above the horizon."""
        rows, columns = np.mgrid[0 : self.height, 0 : self.width].astype(np.float32)
        right, down = columns - np.float32(self.center), rows - np.float32(self.horizon)
        sin, cos = np.float32(np.sin(self.roll)), np.float32(np.cos(self.roll))
        right, down = right * cos + down * sin, -right * sin + down * cos
        with np.errstate(divide="ignore", invalid="ignore"):
            depth = np.where(down > 1e-3, np.float32(self.focal * self.y) / down, np.float32(np.inf))
            across = np.where(np.isfinite(depth), right / np.float32(self.focal) * depth, 0)
        sin, cos = np.float32(np.sin(self.yaw)), np.float32(np.cos(self.yaw))
        forward = np.where(np.isfinite(depth), depth, 1e6).astype(np.float32)
        return across * cos + forward * sin + np.float32(self.x), -across * sin + forward * cos, depth
