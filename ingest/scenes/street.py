"""The plan of one street: where road, pavements, lots and crossings lie. Meters, seen from above."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class Lot:
    """A building's place along the street, and its walls."""

    side: int  # -1 left, 1 right
    near: float  # Z of the nearer end
    far: float
    face: float  # X of the wall towards the street, before bending
    depth: float  # away from the street
    height: float  # of the wall
    detached: bool
    hidden_end: bool  # the end towards the camera is behind the nearer neighbor
    seed: int


@dataclass
class Street:
    """X is measured from the road's middle; `bend(z)` moves it."""

    name: str  # city, suburb, avenue or open
    road: float  # half width
    parking: float  # width of the parking strip on either side, 0 for none; part of the road
    lanes: int
    pavements: tuple[float, float]  # widths, left and right
    verges: tuple[float, float]  # green strips between pavement and lots
    curve: float  # X = curve * Z^2
    cross: tuple[float, float] | None  # Z range of a side street
    zebra: float | None  # Z of a pedestrian crossing
    yard: str  # what lies between the pavement and the buildings: grass, paved
    lots: list[Lot] = field(default_factory=list)

    def bend(self, z: float) -> float:
        return self.curve * z * z

    def outer(self, side: int) -> float:
        """|X| where the pavement ends on that side."""
        return self.road + self.pavements[(side + 1) // 2]

    def shaded(self, x: float, z: float, sun: np.ndarray, height: float = 1.0) -> bool:
        """Whether a building stands between that point and the sun, a unit vector."""
        for lot in self.lots:
            reach = (lot.face + self.bend((lot.near + lot.far) / 2) - x) / sun[0] if abs(sun[0]) > 1e-3 else -1.0
            if reach > 0 and lot.near < z + reach * sun[2] < lot.far and height + reach * sun[1] < lot.height:
                return True
        return False


def pick(rng: np.random.Generator) -> Street:
    """A random street with its buildings' lots."""
    name = str(rng.choice(["city", "suburb", "avenue", "open"], p=[0.42, 0.24, 0.2, 0.14]))
    lanes = int(rng.choice([2, 3, 4], p=[0.6, 0.15, 0.25])) if name != "suburb" else 2
    parking = float(rng.choice([0.0, 2.1])) if name != "open" else 0.0
    verge = {"city": 0.0, "suburb": rng.uniform(1, 6), "avenue": rng.uniform(0, 3), "open": rng.uniform(2, 12)}[name]
    cross = None
    if rng.random() < 0.4:
        start = rng.uniform(14, 55)
        cross = (start, start + rng.uniform(7, 11))
    zebra = None
    if rng.random() < 0.35:
        zebra = cross[0] - rng.uniform(4.5, 6) if cross else rng.uniform(8, 32)
    left, right = rng.uniform(1.5, 4.5, 2)
    street = Street(
        name=name,
        road=lanes * rng.uniform(3.0, 3.6) / 2 + parking,
        parking=parking,
        lanes=lanes,
        pavements=(float(left), float(right)),
        verges=(verge, verge * rng.uniform(0.5, 1.3)),
        curve=float(rng.choice([0.0, 1.0], p=[0.55, 0.45]) * rng.normal(0, 0.0011)),
        cross=cross,
        zebra=zebra,
        yard="grass" if name in ("suburb", "open") or rng.random() < 0.3 else "paved",
    )
    for side in (-1, 1):
        street.lots += _lots(street, side, rng)
    return street


def _lots(street: Street, side: int, rng: np.random.Generator) -> list[Lot]:
    gap_share = {"city": 0.08, "suburb": 0.9, "avenue": 0.3, "open": 0.8}[street.name]
    tall = rng.choice([1.0, 1.6, 2.6], p=[0.5, 0.35, 0.15])
    first = rng.uniform(-14, 3) if street.name != "open" else rng.uniform(10, 50)
    z, lots = first, list[Lot]()
    while z < 130:
        detached = street.name in ("suburb", "open")
        length = rng.uniform(7, 13) if detached else rng.uniform(8, 24)
        end = z + length
        if street.cross and z < street.cross[1] + 2 and end > street.cross[0] - 2:
            if street.cross[0] - 2 - z < 5:
                z = street.cross[1] + 2.2
                continue
            end = street.cross[0] - 2.2
        high = rng.uniform(3, 6.5) if detached else rng.uniform(6.5, 15) * tall
        setback = street.verges[(side + 1) // 2] + (rng.uniform(0, 3) if detached else rng.choice([0, 0, 0.6]))
        face = side * (street.outer(side) + setback)
        before = lots[-1] if lots else None
        hidden = before is not None and before.far == z and before.height >= high and abs(before.face) <= abs(face)
        lots.append(Lot(side, z, end, face, rng.uniform(7, 13), high, detached, hidden, int(rng.integers(1 << 31))))
        z = end
        if rng.random() < gap_share:
            z += rng.uniform(2, 9) if street.name != "open" else rng.uniform(8, 40)
    return lots
