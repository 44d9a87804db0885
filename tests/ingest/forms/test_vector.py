"""Vector layers drawn on scenes: the same mask from each format and system; each fault in one line."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ingest.pixels import features
from ingest.shards import manifest
from ingest.shards.tar import read_samples

rasterio = pytest.importorskip("rasterio")
fiona = pytest.importorskip("fiona")

HW = (40, 60)
EAST, NORTH, SIZE = 500000.0, 5500000.0, 10.0
SPEC = "{name: f, classes: [rest, wheat, maize], labels: {form: vector, files: FILES, attribute: crop, MORE}, SPLITS}"
SPLITS = "splits: {train: {images: 'img/*.tif'}}"


def scene(folder: Path, name: str = "s", east: float = EAST, placed: bool = True) -> None:
    (folder / "img").mkdir(parents=True, exist_ok=True)
    place = {"crs": "EPSG:32632", "transform": rasterio.Affine(SIZE, 0, east, 0, -SIZE, NORTH)} if placed else {}
    pixels = np.random.default_rng(0).integers(1, 256, (3, *HW), dtype=np.uint8)
    with rasterio.open(
        folder / f"img/{name}.tif", "w", driver="GTiff", height=HW[0], width=HW[1], count=3, dtype="uint8", **place
    ) as file:
        file.write(pixels)


def box(x0: int, y0: int, x1: int, y1: int, hole: tuple[int, int, int, int] | None = None) -> dict:
    """A polygon of the pixels y0..y1, x0..x1, in map coordinates."""

    def ring(a: int, b: int, c: int, d: int) -> list[tuple[float, float]]:
        corners = ((a, b), (c, b), (c, d), (a, d), (a, b))
        return [(EAST + SIZE * x, NORTH - SIZE * y) for x, y in corners]

    rings = [ring(x0, y0, x1, y1)] + ([ring(*hole)] if hole else [])
    return {"type": "Polygon", "coordinates": rings}


FIELDS = [(box(5, 5, 30, 30, (10, 10, 15, 15)), "wheat"), (box(25, 20, 50, 40), "maize"), (box(-9, -9, 3, 3), "wheat")]


def truth() -> np.ndarray:
    out = np.zeros(HW, np.uint8)
    out[5:30, 5:30] = 1
    out[10:15, 10:15] = 0
    out[20:40, 25:50] = 2
    out[0:3, 0:3] = 1
    return out


def layer(path: Path, fields: list[tuple[dict | None, str]], crs: str | None = "EPSG:32632", kind: str = "Polygon"):
    from rasterio.warp import transform_geom

    driver = {".geojson": "GeoJSON", ".gpkg": "GPKG", ".shp": "ESRI Shapefile"}[path.suffix]
    schema = {"geometry": kind, "properties": {"id": "int", "crop": "str", "note": "str"}}
    with fiona.open(path, "w", driver=driver, crs=crs, schema=schema) as out:
        for number, (shape, crop) in enumerate(fields):
            moved = transform_geom("EPSG:32632", crs, shape) if shape and crs else shape
            out.write({"geometry": moved, "properties": {"id": number, "crop": crop, "note": f"field {number}"}})


def ingested(tmp_path: Path, quick, more: str = "background: rest", files: str = "f.*", tile: bool = False):
    spec, out = tmp_path / "s.yaml", tmp_path / "out"
    spec.write_text(SPEC.replace("FILES", json.dumps(files)).replace("MORE", more).replace("SPLITS", SPLITS))
    words = ["--tile", "40x40+20"] if tile else []
    return quick("folder", tmp_path / "raw", "--spec", spec, "--out", out, *words), out


def labels(out: Path) -> dict[str, np.ndarray]:
    return {
        key: np.asarray(Image.open(io.BytesIO(files["seg.png"])))
        for key, files in read_samples(out / "train-000000.tar")
    }


@pytest.mark.parametrize("suffix", [".geojson", ".gpkg", ".shp"])
@pytest.mark.parametrize("crs", ["EPSG:32632", "EPSG:4326"])
def test_the_same_mask_from_each_format(tmp_path: Path, quick, monkeypatch, suffix: str, crs: str) -> None:
    if suffix == ".geojson" and crs != "EPSG:4326":
        pytest.skip("GeoJSON is in longitude and latitude (RFC 7946)")
    scene(tmp_path / "raw")
    layer(tmp_path / f"raw/f{suffix}", FIELDS, crs)
    monkeypatch.setattr(features, "_STRIP", 7 * HW[1])  # strips that do not divide the scene
    result, out = ingested(tmp_path, quick, files=f"f{suffix}")
    assert result.returncode == 0, result.stderr
    np.testing.assert_array_equal(labels(out)["s_y0_x0"], truth())


def test_tiles_maps_and_categories_left_out(tmp_path: Path, quick) -> None:
    scene(tmp_path / "raw")
    fields = [*FIELDS, (box(0, 35, 5, 40), "barley"), (box(55, 0, 60, 5), "road")]
    layer(tmp_path / "raw/f.gpkg", fields)
    result, out = ingested(tmp_path, quick, "background: rest, map: {barley: wheat}, ignore: [road]", tile=True)
    assert result.returncode == 0, result.stderr
    expected = truth()
    expected[35:40, 0:5] = 1
    expected[0:5, 55:60] = 255
    found = labels(out)
    np.testing.assert_array_equal(found["s_y0_x0"], expected[:, :40])
    np.testing.assert_array_equal(found["s_y0_x20"], expected[:, 20:])
    geo = {sample.key: sample.geo for sample in manifest.load_shard(out, "train-000000").samples}
    assert geo["s_y0_x20"]["transform"] == [SIZE, 0, EAST + 20 * SIZE, 0, -SIZE, NORTH]


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("unlisted", ["f.gpkg: feature", "'rye', which is not listed"]),
        ("line", ["f.gpkg: feature", "LineString, which covers no area"]),
        ("elsewhere", ["no feature of f.gpkg lies on any scene", "coordinate system"]),
        ("no place", ["s.tif does not say where on the map"]),
        ("no system", ["f.shp does not say its coordinate system", ".prj"]),
        ("junk", ["f.gpkg cannot be read"]),
        ("attribute", ["no attribute 'crops'", "did you mean 'crop'"]),
        ("none", ["no file below", "'f.*'"]),
    ],
)
def test_faults_are_one_line(tmp_path: Path, quick, fault: str, words: list[str]) -> None:
    raw = tmp_path / "raw"
    scene(raw, placed=fault != "no place", east=EAST + (1e5 if fault == "elsewhere" else 0))
    if fault == "junk":
        (raw / "f.gpkg").write_bytes(b"junk")
    elif fault == "no system":
        layer(raw / "f.shp", FIELDS)
        (raw / "f.prj").unlink()
    elif fault == "line":
        line = {"type": "LineString", "coordinates": [(EAST, NORTH), (EAST + 100, NORTH - 100)]}
        layer(raw / "f.gpkg", [(line, "wheat")], kind="LineString")
        scene(raw, "t", east=EAST + 600)  # whose label is whole, and shows one class: that is not what is at fault
    elif fault != "none":
        layer(raw / "f.gpkg", [*FIELDS, *([(box(1, 1, 9, 9), "rye")] if fault == "unlisted" else [])])
    spec = tmp_path / "s.yaml"
    result, _ = ingested(tmp_path, quick, files="f.shp" if fault == "no system" else "f.*")
    if fault == "attribute":
        spec.write_text(spec.read_text().replace("attribute: crop", "attribute: crops"))
        result = quick("folder", raw, "--spec", spec, "--out", tmp_path / "out2")
    errors = [line for line in result.stderr.splitlines() if not line.startswith("note:")]
    assert result.returncode == 2 and len(errors) == 1, result.stderr
    for word in words:
        assert word in errors[0]


def test_inspect_finds_layers_and_the_attribute(tmp_path: Path, quick) -> None:
    for number in range(4):
        scene(tmp_path / "raw", f"s{number}")
    layer(tmp_path / "raw/fields.gpkg", FIELDS)
    result = quick("folder", tmp_path / "raw", "--out", tmp_path / "out", "--yes")
    assert result.returncode == 0, result.stderr + result.stdout
    facts = manifest.load(tmp_path / "out")
    assert facts.classes == ["background", "maize", "wheat"]
    expected = np.array([0, 2, 1], np.uint8)[truth()]
    np.testing.assert_array_equal(next(iter(labels(tmp_path / "out").values())), expected)
