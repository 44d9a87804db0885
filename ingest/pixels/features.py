"""Features on a map (GeoJSON, GeoPackage, shapefile) drawn onto a scene's grid. Needs the `geo` extra."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ingest.errors import UserError, message, nearest
from ingest.pixels import tiff
from ingest.pixels.polygons import Rules
from ingest.pixels.tiff import Place
from ingest.sources.archives import Source

DRIVERS = ["GeoJSON", "GPKG", "ESRI Shapefile"]  # no others: some read files that a file names, or the network
_AREAS = ("Polygon", "MultiPolygon")
_STRIP = 32 << 20  # pixels
Bounds = tuple[float, float, float, float]  # west, south, east, north


def opened(source: Source) -> Any:
    """A layer, by fiona. UserError on archives, broken files, and where fiona is missing."""
    try:
        import fiona
    except ImportError as error:
        raise UserError(f"{source.name} is read by fiona and rasterio: pip install 'segrail[geo]'") from error
    if not source.loose:
        raise UserError(f"{source.name} lies in an archive, where it cannot be read: unpack {source.path}")
    try:
        return fiona.open(source.path, enabled_drivers=DRIVERS)
    except Exception as error:  # of fiona, GDAL or the driver, by kind of damage
        reason = message(error)
        raise UserError(f"{source.name} cannot be read as a vector layer ({reason}): export it again") from error


def system(layer: Any, source: Source) -> str:
    """A layer's coordinate system as WKT. UserError where it has none."""
    wkt = str(layer.crs_wkt or "")
    if not wkt:
        raise UserError(
            f"{source.name} does not say its coordinate system: add it (a shapefile's is its .prj file), or export the "
            "layer as GeoPackage"
        )
    return wkt


def scene_bounds(place: Place, height: int, width: int, wkt: str) -> Bounds:
    """What a scene covers, in another coordinate system. UserError where the two do not go together."""
    from rasterio.warp import transform_bounds

    a, b, c, d, e, f = place.transform
    corners = [(c + a * x + b * y, f + d * x + e * y) for x in (0, width) for y in (0, height)]
    own = min(x for x, _ in corners), min(y for _, y in corners), max(x for x, _ in corners), max(y for _, y in corners)
    return tuple(transform_bounds(place.crs, wkt, *own))


def overlap(one: Bounds, other: Bounds) -> bool:
    """Whether two rectangles touch."""
    return one[0] <= other[2] and other[0] <= one[2] and one[1] <= other[3] and other[1] <= one[3]


@dataclass(frozen=True)
class FeatureLabel:
    """The label of a scene: the features of some layers that lie on it, later ones on earlier ones."""

    name: str
    size: int
    scene: Source
    layers: tuple[Source, ...]
    attribute: str
    rules: Rules

    @property
    def upright(self) -> bool:
        """A scene's pixels lie as its transform says."""
        return False

    def ids(self, height: int, width: int) -> NDArray[np.uint8]:
        """Train ids [H, W]. A pixel is of the feature that its center lies in."""
        return np.concatenate(list(self.strips(height, width)))

    def strips(self, height: int, width: int) -> Iterator[NDArray[np.uint8]]:
        """The same in strips of rows from the top down. UserError names the layer and the feature at fault."""
        from rasterio import Affine
        from rasterio.features import rasterize

        place = tiff.facts(self.scene).place
        if place is None:
            raise UserError(
                f"{self.scene.name} does not say where on the map it lies, so no feature can be drawn on it: give it a "
                "coordinate system and a transform, as `gdal_translate -a_srs ... -a_ullr ...` does"
            )
        shapes = [shape for layer in self.layers for shape in self._shapes(layer, place, height, width)]
        rows = max(1, _STRIP // width)
        for start in range(0, height, rows):
            hw, grid = (min(rows, height - start), width), Affine(*place.shifted(start, 0).transform)
            fill = self.rules.background
            yield (
                rasterize(shapes, hw, fill=fill, transform=grid, dtype="uint8")
                if shapes
                else np.full(hw, fill, np.uint8)
            )

    def _shapes(self, source: Source, place: Place, height: int, width: int) -> list[tuple[Any, int]]:
        """(geometry in the scene's system, train id) of a layer's features on the scene."""
        from rasterio.features import is_valid_geom
        from rasterio.warp import transform_geom

        found = []
        with opened(source) as layer:
            wkt = system(layer, source)
            for feature in layer.filter(bbox=scene_bounds(place, height, width, wkt)):
                where = f"{source.name}: feature {feature.id}"
                target = self._target(feature, where)
                if target is None:
                    continue
                geometry = feature.geometry
                if geometry is None or geometry.type not in _AREAS:
                    kind = "no geometry" if geometry is None else f"a {geometry.type}, which covers no area"
                    raise UserError(f"{where} has {kind}: remove it, or leave out its category with `omit`")
                moved = transform_geom(wkt, place.crs, geometry.__geo_interface__)
                if not is_valid_geom(moved):
                    raise UserError(f"{where} has a broken outline: repair the layer, or remove the feature")
                found.append((moved, target))
        return found

    def _target(self, feature: Any, where: str) -> int | None:
        if self.attribute not in feature.properties:
            hint = nearest(self.attribute, feature.properties)
            raise UserError(f"{where} has no attribute {self.attribute!r}{hint}; mend `attribute` in the spec")
        value = feature.properties[self.attribute]
        category = "" if value is None else str(value)
        try:
            return self.rules.target(category)
        except KeyError as error:
            raise UserError(
                f"{where} has {self.attribute} {category!r}, which is not listed: add it to `classes`, or under "
                f"`labels` map it to one (`map: {{{category!r}: CLASS}}`), ignore it or omit it"
                f"{nearest(category, [name for name in self.rules.ids if not name.startswith('_')])}"
            ) from error
