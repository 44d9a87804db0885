"""Masks as outlines: GeoJSON on the map, or COCO annotations in pixels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ingest.pixels import tiff
from ingest.shards import atomic
from ingest.shards.manifest import IGNORE

Array = NDArray[np.uint8]


def geojson(mask: Array, classes: Sequence[str], place: tiff.Place) -> dict[str, Any]:
    """A feature a connected area (4 neighbors), along the edges of its pixels, in longitude and latitude (RFC 7946).

    mask: class ids uint8 [H, W]; 255 has no outline. Properties: `class`, `id` (its number).
    """
    import rasterio.features
    from rasterio.transform import Affine
    from rasterio.warp import transform_geom

    found = list(rasterio.features.shapes(mask, mask != IGNORE, 4, Affine(*place.transform)))
    shapes = [shape for shape, _ in found]
    # All at once: each call looks its coordinate systems up, which takes longer than an outline.
    geometries = transform_geom(place.crs, "EPSG:4326", shapes, precision=9) if shapes else []
    features = [
        {"type": "Feature", "properties": {"class": classes[int(c)], "id": int(c)}, "geometry": geometry}
        for (_, c), geometry in zip(found, geometries, strict=True)
    ]
    return {"type": "FeatureCollection", "features": features}


def coco(mask: Array) -> list[dict[str, Any]]:
    """A COCO annotation a connected area (8 neighbors) of a class, without ids.

    Areas without holes are polygons through the middles of their border's pixels, which fill to the very mask with
    cv2.fillPoly; those with holes are run lengths, uncompressed (pycocotools.mask.frPyObjects reads them). category_id
    is the class's number plus 1, since some readers take 0 for none.
    """
    found = []
    for c in np.unique(mask[mask != IGNORE]).tolist():
        own = (mask == c).astype(np.uint8)
        _, areas, stats, _ = cv2.connectedComponentsWithStats(own, connectivity=8)
        for number, (x, y, width, height, pixels) in enumerate(stats[1:].tolist(), start=1):
            part = (areas[y : y + height, x : x + width] == number).astype(np.uint8)
            outer, _tree = cv2.findContours(part, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE, offset=(x, y))
            whole = len(outer) == 1 and len(outer[0]) >= 3
            segmentation: Any = [outer[0].reshape(-1).tolist()] if whole else _runs(part, (y, x), mask.shape)
            found.append(
                {
                    "category_id": c + 1,
                    "segmentation": segmentation,
                    "area": pixels,
                    "bbox": [x, y, width, height],
                    "iscrowd": 0,
                }
            )
    return found


def _runs(part: Array, at: tuple[int, int], size: tuple[int, ...]) -> dict[str, Any]:
    """COCO's run lengths: column after column, beginning with how many pixels are out."""
    whole = np.zeros(size, np.uint8)
    whole[at[0] : at[0] + part.shape[0], at[1] : at[1] + part.shape[1]] = part
    flat = whole.ravel(order="F")
    changes = np.flatnonzero(np.diff(flat)) + 1
    edges = np.concatenate([[0], changes, [flat.size]])
    counts = np.diff(edges).tolist()
    return {"size": list(size), "counts": [0, *counts] if flat[0] else counts}


def write_coco(path: Path, images: dict[str, tuple[tuple[int, int], list[dict[str, Any]]]], classes: list[str]) -> None:
    """One COCO file of all images: name -> (its height and width, its annotations). Numbered in the names' order."""
    listed: dict[str, list[dict[str, Any]]] = {"images": [], "annotations": []}
    for number, name in enumerate(sorted(images), start=1):
        (height, width), annotations = images[name]
        listed["images"].append({"id": number, "file_name": name, "height": height, "width": width})
        for annotation in annotations:
            at = len(listed["annotations"]) + 1
            listed["annotations"].append({"id": at, "image_id": number, **annotation})
    categories = [{"id": c + 1, "name": name} for c, name in enumerate(classes)]
    atomic.write_json(path, {**listed, "categories": categories}, indent=None)
