"""Vector layers as labels of scenes: GeoJSON, GeoPackage, shapefile; an attribute of the features names the class.

    labels: {form: vector, files: "fields.gpkg", attribute: crop, background: other}

Features are drawn on whichever scenes they lie on, brought from the layer's coordinate system to the scene's.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence

from ingest.errors import UserError
from ingest.forms.form import Form
from ingest.forms.settings import LabelSpec
from ingest.pixels import features, tiff
from ingest.pixels.features import FeatureLabel
from ingest.pixels.polygons import Drawing
from ingest.shards.manifest import Skipped
from ingest.sources.archives import Source
from ingest.sources.raw import Pair
from ingest.sources.trees import Tree

_TITLE = "vector layers"
_BYTES = 20_000  # of a label, for the planning of shards
_SURVEYED = 5000  # features that are looked at for the attribute that names classes


def looks_like(name: str, head: bytes) -> bool:
    """By its suffix; a json file where it is a collection of features."""
    suffix = os.path.splitext(name)[1].lower()
    return suffix in (".geojson", ".gpkg", ".shp") or (suffix == ".json" and b'"FeatureCollection"' in head)


def _no_drawing(data: bytes, name: str) -> Drawing:
    raise UserError(f"{name} lies on the map, not on one image: name it as the spec's `labels`, with its `attribute`")


FORM = Form("vector", _TITLE, looks_like, _no_drawing, on_the_map=True)


def pair(
    tree: Tree, images: Iterable[str], spec: LabelSpec, files: str, skip_bad: bool
) -> tuple[list[Pair], list[Skipped]]:
    """Scenes with the layers that match `files`. UserError where none of them lies on any scene."""
    layers = tuple(tree.source(name) for name in tree.match(files))
    if not layers:
        raise UserError(f"no file below {tree.root} matches {files!r} (there are: {tree.describe()}): mend {spec.path}")
    pairs, skipped, meeting = [], [], 0
    assert spec.attribute is not None
    for name in images:
        try:
            scene = tree.source(name)
            meeting += _meets(scene, layers)
            label = f"{files}, {spec.attribute}: {name}"
            pairs.append(Pair(scene, FeatureLabel(label, _BYTES, scene, layers, spec.attribute, spec.rules)))
        except UserError as error:
            if not skip_bad:
                raise
            skipped.append(Skipped(name, str(error)))
    if pairs and not meeting:
        raise UserError(_apart(pairs[0].image, layers[0]))
    return pairs, skipped


def _meets(scene: Source, layers: Sequence[Source]) -> bool:
    """Whether a layer reaches the scene. UserError where the scene does not say where it lies."""
    found = tiff.facts(scene)
    if found.place is None:
        extra = "" if tiff.rasterio() else " (rasterio reads that: pip install 'segrail[geo]')"
        raise UserError(
            f"{scene.name} does not say where on the map it lies{extra}: give it a coordinate system and a transform, "
            "as `gdal_translate -a_srs ... -a_ullr ...` does"
        )
    for source in layers:
        with features.opened(source) as layer:
            own = features.scene_bounds(found.place, found.height, found.width, features.system(layer, source))
            if len(layer) and features.overlap(own, layer.bounds):
                return True
    return False


def _apart(scene: Source, source: Source) -> str:
    found = tiff.facts(scene)
    assert found.place is not None
    with features.opened(source) as layer:
        own = features.scene_bounds(found.place, found.height, found.width, features.system(layer, source))
        theirs = layer.bounds if len(layer) else (0.0, 0.0, 0.0, 0.0)
    spans = [f"{box[0]:.6g}..{box[2]:.6g} east, {box[1]:.6g}..{box[3]:.6g} north" for box in (own, theirs)]
    return (
        f"no feature of {source.name} lies on any scene: {scene.name} covers {spans[0]}, the layer {spans[1]}: is the "
        "coordinate system of one of them wrong?"
    )


def survey(layers: Sequence[Source]) -> tuple[str, list[str]]:
    """The attribute that most looks like a class, and its values: text of few different values."""
    counts: dict[str, Counter[str]] = {}
    for source in layers:
        with features.opened(source) as layer:
            for number, feature in enumerate(layer):
                if number >= _SURVEYED:
                    break
                for key, value in feature.properties.items():
                    counts.setdefault(key, Counter())[str(value)] += value is not None
    likely = sorted(counts, key=lambda key: (_unlikely(counts[key]), len(counts[key])))
    if not likely:
        return "", []
    return likely[0], sorted(value for value, count in counts[likely[0]].items() if count)


def _unlikely(values: Counter[str]) -> int:
    """0 for words that repeat, more for numbers, for values that are all different, and for a single one."""
    words = all(not value.lstrip("-").replace(".", "", 1).isdigit() for value in values)
    repeated = sum(values.values()) > len(values)
    return (not words) + 2 * (len(values) < 2) + 2 * (not repeated) + 4 * (len(values) > 254)
