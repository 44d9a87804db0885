"""What a scene can hold. Finer than any one dataset's classes: every layout maps these kinds onto its own ids."""

from __future__ import annotations

from enum import IntEnum


class Kind(IntEnum):
    """One kind a pixel. The values stay inside this package: they are never written to disk."""

    SKY = 0
    HILL = 1
    SKYSCRAPER = 2  # the far skyline
    BUILDING = 3
    HOUSE = 4  # a detached house with a pitched roof
    WALL = 5
    FENCE = 6
    ROAD = 7
    PAVEMENT = 8
    GRASS = 9
    TREE = 10
    BUSH = 11
    POT_PLANT = 12
    CAR = 13
    VAN = 14
    TRUCK = 15
    BUS = 16
    TRAM = 17
    MOTORCYCLE = 18
    BICYCLE = 19
    PERSON = 20
    RIDER = 21
    POLE = 22
    TRAFFIC_LIGHT = 23
    SIGN = 24
    BENCH = 25
    BIN = 26
    TABLE = 27
    CHAIR = 28
    DOG = 29
    BIRD = 30
    AEROPLANE = 31
    BONNET = 32  # of the camera's own car
