"""Shapes in, masks out: what annotation tools write (outlines, holes, bitmaps), drawn as train ids by cv2.fillPoly.

Coordinates are (x, y) in pixels from the image's corner, as annotation tools have them: (10.7, 3.2) lies in the pixel
of column 10 and row 3. A corner of a shape is the pixel in which it lies, and a shape includes its outline, as in the
tools' own exports. A hole's outline belongs to the hole.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from ingest.errors import UserError, nearest
from ingest.shards.manifest import IGNORE

Ring = NDArray[np.float64]  # [N, 2] (x, y), closed by itself
_NOISE = 1 / 64  # of a pixel: 9.99 is 10, after shares and percents were written with a few decimals
_BEYOND = 0.25  # of the image's longer side: how far a shape may reach over the edge, as annotators let it
_FARTHEST = 1 << 20  # pixels: cv2 counts in 32 bits, of which the fraction takes some


@dataclass(frozen=True)
class Bitmap:
    """A mask that covers a part of its image."""

    pixels: NDArray[np.bool_]  # [h, w]
    x: int = 0  # of its left column
    y: int = 0  # of its top row


@dataclass(frozen=True)
class Shape:
    """One object of an annotation."""

    where: str  # as the tool counts it, for messages: "annotation 17", "line 3"
    category: str
    outlines: tuple[Ring, ...] = ()  # parts of one object
    holes: tuple[Ring, ...] = ()
    bitmap: Bitmap | None = None
    missing: str = ""  # why it has no area ("is a line"): a mistake, unless its category is left out
    crowd: bool = False  # a region that the dataset does not evaluate: ignored, below all other shapes


def rectangle(left: float, top: float, right: float, bottom: float, degrees: float = 0.0) -> Ring:
    """Four corners, turned clockwise about the middle."""
    corners = np.array([[left, top], [right, top], [right, bottom], [left, bottom]], np.float64)
    return turn(corners, (left + right) / 2, (top + bottom) / 2, degrees)


def ellipse(x: float, y: float, rx: float, ry: float, degrees: float = 0.0) -> Ring:
    """A polygon of 128 corners on the ellipse: off by less than 1/3000 of its radius."""
    angles = np.linspace(0, 2 * math.pi, 128, endpoint=False)
    return turn(np.stack([x + rx * np.cos(angles), y + ry * np.sin(angles)], axis=1), x, y, degrees)


def turn(points: Ring, x: float, y: float, degrees: float) -> Ring:
    if not degrees:
        return points
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return (points - (x, y)) @ np.array([[cos, sin], [-sin, cos]]) + (x, y)


@dataclass(frozen=True)
class Drawing:
    """All that an annotation says of one image, from the bottom to the top."""

    shapes: tuple[Shape, ...]
    hw: tuple[int, int] | None = None  # the image's size as recorded
    relative: bool = False  # coordinates are shares of the image's width and height


@dataclass(frozen=True)
class Rules:
    """How categories become classes."""

    ids: Mapping[str, int]  # category -> train id, 255 = ignore
    background: int = IGNORE  # train id of the pixels outside of all shapes
    omit: tuple[str, ...] = ()  # categories that are not drawn
    others: Literal["", "omit", "ignore"] = ""  # what happens to a category that is not listed; "": a mistake
    called: Mapping[str, str] = field(default_factory=dict)  # number -> name, of categories that are numbers

    def target(self, category: str) -> int | None:
        """The train id, None for what is not drawn; KeyError for a category that is not listed."""
        if category in self.omit:
            return None
        if category in self.ids or not self.others:
            return self.ids[category]
        return IGNORE if self.others == "ignore" else None


def draw(drawing: Drawing, hw: tuple[int, int], name: str, rules: Rules, smaller_on_top: bool) -> NDArray[np.uint8]:
    """Train ids [H, W] for an image of that size. Raises UserError naming the object at fault.

    Later shapes lie on earlier ones, or smaller ones (in pixels) on larger ones; crowds lie below all others.
    """
    if drawing.hw not in (None, hw):
        height, width = drawing.hw or hw
        raise UserError(
            f"{name} is of an image of {width}x{height}, the image is {hw[1]}x{hw[0]} (width x height): "
            "pair the image with its own annotation, or bring it back to the size at which it was annotated"
        )
    layers: list[tuple[int, int, Bitmap]] = []
    for given in drawing.shapes:
        shape = replace(given, category=rules.called.get(given.category, given.category))
        try:
            target = rules.target(shape.category)
        except KeyError as error:
            raise _unlisted(shape, name, rules) from error
        if target is None:
            continue
        bitmap = region(_scaled(shape, hw) if drawing.relative else shape, hw, name)
        area = int(bitmap.pixels.sum()) if smaller_on_top else 0
        layers.append((-area if not shape.crowd else -(hw[0] * hw[1]) - 1, IGNORE if shape.crowd else target, bitmap))
    out = np.full(hw, rules.background, np.uint8)
    for _, target, bitmap in sorted(layers, key=lambda layer: layer[0]):  # stable: equals stay in the file's order
        height, width = bitmap.pixels.shape
        out[bitmap.y : bitmap.y + height, bitmap.x : bitmap.x + width][bitmap.pixels] = target
    return out


def _scaled(shape: Shape, hw: tuple[int, int]) -> Shape:
    scale = (hw[1], hw[0])
    return replace(
        shape,
        outlines=tuple(ring * scale for ring in shape.outlines),
        holes=tuple(ring * scale for ring in shape.holes),
    )


def _unlisted(shape: Shape, name: str, rules: Rules) -> UserError:
    category = shape.category
    what = f"category {category!r}, which is not listed" if category else "no category"
    return UserError(
        f"{name}: {shape.where} has {what}: add it to `classes`, or under `labels` map it to one "
        f"(`map: {{{category!r}: CLASS}}`), ignore it or omit it, or all that are not listed (`others: ignore`)"
        f"{nearest(category, [name for name in rules.ids if not name.startswith('_')])}"
    )


def region(shape: Shape, hw: tuple[int, int], name: str) -> Bitmap:
    """The pixels of one shape, cut to the image. Raises UserError where the geometry is at fault."""
    if shape.missing:
        raise _mistake(shape, name, shape.missing, "draw it as a polygon, or leave its category out with `omit`")
    if shape.bitmap is not None:
        return _clip(shape, shape.bitmap, hw, name)
    if not shape.outlines:
        raise _mistake(shape, name, "has no outline", "draw it, or remove it")
    rings = [_checked(shape, ring, hw, name) for ring in (*shape.outlines, *shape.holes)]
    corners = np.concatenate(rings)
    low = np.maximum(np.floor(corners.min(0)).astype(int) - 1, 0)
    high = np.minimum(np.ceil(corners.max(0)).astype(int) + 2, (hw[1], hw[0]))
    if (high <= low).any():
        raise _outside(shape, corners, hw, name)
    pixels = np.zeros((high[1] - low[1], high[0] - low[0]), np.uint8)
    for ring in rings[: len(shape.outlines)]:
        _fill(pixels, ring - low)
    for ring in rings[len(shape.outlines) :]:
        _paint(pixels, ring - low, 0)
    if not pixels.any():
        raise _outside(shape, corners, hw, name)
    return Bitmap(pixels.astype(bool), int(low[0]), int(low[1]))


def _checked(shape: Shape, ring: Ring, hw: tuple[int, int], name: str) -> Ring:
    if ring.ndim != 2 or ring.shape[1:] != (2,) or len(ring) < 3:
        raise _mistake(shape, name, f"has an outline of {len(ring)} points", "a polygon has three or more: mend it")
    if not np.isfinite(ring).all():
        raise _mistake(shape, name, "has a coordinate that is no number", "mend or remove it")
    reach = _BEYOND * max(hw)
    beyond = max(-ring.min(), ring[:, 0].max() - hw[1], ring[:, 1].max() - hw[0])
    if beyond > min(reach, _FARTHEST):
        raise _outside(shape, ring, hw, name)
    return ring


def _fill(pixels: NDArray[np.uint8], ring: Ring) -> None:
    """Adds one outline. Where it runs back over its own points it holds several loops: parts, and holes in them.

    So tools write an object of parts as one outline. The bridges between the loops are no part of the object.
    """
    loops = _loops(ring)
    if len(loops) == 1:
        _paint(pixels, loops[0], 1)
        return
    whole = np.zeros_like(pixels)
    for loop in sorted(loops, key=_area, reverse=True):
        inside = np.zeros_like(pixels)
        _paint(inside, loop, 1)
        covered = inside > 0
        whole[covered] = 0 if covered.any() and whole[covered].all() else 1  # within a larger loop: a hole
    pixels |= whole


def _loops(ring: Ring) -> list[Ring]:
    """The ring, cut apart at the points that it visits twice; bridges (there and back) fall away."""
    stack: list[tuple[int, int]] = []
    place: dict[tuple[int, int], int] = {}
    loops = []
    for x, y in np.rint(ring / _NOISE).astype(np.int64).tolist():
        point = (x, y)
        if point in place:
            loop = stack[place[point] :]
            loops.append(loop)
            for gone in loop[1:]:
                del place[gone]
            del stack[place[point] + 1 :]
        else:
            place[point] = len(stack)
            stack.append(point)
    loops.append(stack)
    whole = [np.array(loop, np.float64) * _NOISE for loop in loops if len(loop) >= 3]
    return whole or [ring]  # a line, or a point: drawn as what it is


def _area(ring: Ring) -> float:
    x, y = ring.T
    return abs(float(x @ np.roll(y, 1) - y @ np.roll(x, 1))) / 2


def _paint(pixels: NDArray[np.uint8], ring: Ring, value: int) -> None:
    cv2.fillPoly(pixels, [np.floor(ring + _NOISE).astype(np.int32)], value)


def _clip(shape: Shape, bitmap: Bitmap, hw: tuple[int, int], name: str) -> Bitmap:
    """The part of a bitmap that lies on the image."""
    height, width = bitmap.pixels.shape
    top, left = max(0, -bitmap.y), max(0, -bitmap.x)
    pixels = bitmap.pixels[top : max(0, hw[0] - bitmap.y), left : max(0, hw[1] - bitmap.x)]
    if not pixels.any():
        corners = np.array([[bitmap.x, bitmap.y], [bitmap.x + width, bitmap.y + height]], np.float64)
        if bitmap.pixels.any():
            raise _outside(shape, corners, hw, name)
        raise _mistake(shape, name, "has a mask without a pixel", "remove it")
    return Bitmap(pixels, bitmap.x + left, bitmap.y + top)


def _mistake(shape: Shape, name: str, what: str, remedy: str) -> UserError:
    return UserError(f"{name}: {shape.where} ({shape.category!r}) {what}: {remedy}")


def _outside(shape: Shape, corners: Sequence[Ring] | Ring, hw: tuple[int, int], name: str) -> UserError:
    (left, top), (right, bottom) = np.min(corners, axis=0), np.max(corners, axis=0)
    return _mistake(
        shape,
        name,
        f"lies at x {left:.6g}..{right:.6g}, y {top:.6g}..{bottom:.6g}, outside of the image of {hw[1]}x{hw[0]}",
        "was the image resized after it was annotated? Mend or remove the shape",
    )
