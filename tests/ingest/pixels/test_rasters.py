"""Scenes of many bands and bits: tiles cover them, remember where they were, and lose nothing."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ingest.errors import UserError
from ingest.pixels import tiff
from ingest.pixels.rasters import Tile, prepare_scene, windows
from ingest.pixels.raw import read_pixels
from ingest.pixels.recipe import PixelRecipe, apply
from ingest.shards import manifest
from ingest.shards.tar import read_samples
from ingest.sources.archives import Source

tifffile = pytest.importorskip("tifffile")


@pytest.mark.parametrize(("height", "width"), [(100, 130), (64, 64), (30, 200), (65, 64)])
def test_tiles_cover_the_scene(height: int, width: int):
    seen = np.zeros((height, width), int)
    found = windows(height, width, Tile(64, 48, 16))
    for y, x, h, w in found:
        assert h == min(64, height) and w == min(48, width) and y + h <= height and x + w <= width
        seen[y : y + h, x : x + w] += 1
    assert seen.min() >= 1 and len(set(found)) == len(found)


def scenes(folder: Path, bands: int, dtype: type, planar: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """One scene of 100 x 130 and its mask, as TIFFs."""
    rng = np.random.default_rng(bands)
    scene = rng.integers(0, 1024 if dtype is np.uint16 else 256, (100, 130, bands)).astype(dtype)
    mask = rng.integers(0, 3, (100, 130)).astype(np.uint8)
    for kind in ("img", "lbl"):
        (folder / kind).mkdir(parents=True)
    if planar:
        tifffile.imwrite(
            folder / "img/gf2.tif", np.moveaxis(scene, 2, 0), planarconfig="separate", photometric="minisblack"
        )
    else:
        tifffile.imwrite(
            folder / "img/gf2.tif", scene, photometric="minisblack", planarconfig="contig", compression="zlib"
        )
    tifffile.imwrite(folder / "lbl/gf2.tif", mask)
    return scene, mask


@pytest.mark.parametrize(("bands", "planar"), [(8, False), (4, True)])
@pytest.mark.parametrize("workers", [1, 2])
def test_bands_go_in_without_loss(bands: int, planar: bool, workers: int, tmp_path: Path, ingest):
    scene, mask = scenes(tmp_path / "raw", bands, np.uint8, planar)
    spec = tmp_path / "s.yaml"
    spec.write_text(
        f"{{name: gf, classes: [a, b], ignore: [2], bands: {list(range(1, bands + 1))},"
        " splits: {train: {images: 'img/*.tif', labels: 'lbl/*.tif'}}}"
    )
    out = tmp_path / "out"
    words = ("--out", out, "--tile", "64x48+16", "--workers", workers)
    result = ingest("folder", tmp_path / "raw", "--spec", spec, *words)
    assert result.returncode == 0, result.stderr
    facts = manifest.load(out)
    assert facts.channels == bands == len(facts.mean) and not (out / "scenes").exists()
    samples = manifest.load_shard(out, "train-000000").samples
    files = dict(read_samples(out / "train-000000.tar"))
    assert len(samples) == 2 * 4
    for sample in samples:
        y, x = sample.offset
        assert sample.key == f"gf2_y{y}_x{x}" and sample.image == "img/gf2.tif"
        pixels = np.load(io.BytesIO(files[sample.key]["npy"]))
        np.testing.assert_array_equal(pixels, scene[y : y + 64, x : x + 48])
        label = np.asarray(Image.open(io.BytesIO(files[sample.key]["seg.png"])))
        np.testing.assert_array_equal(label, np.where(mask == 2, 255, mask)[y : y + 64, x : x + 48])
    assert ingest("verify", out, "--deep").returncode == 0
    assert ingest("show", out, "--out", tmp_path / "sheet.png").returncode == 0


def test_16_bits_by_range_and_band_choice(tmp_path: Path, ingest):
    scene, _ = scenes(tmp_path / "raw", 4, np.uint16)
    spec = tmp_path / "s.yaml"
    spec.write_text(
        "{name: gf, classes: [a, b, c], bands: [3, 2, 1], range: [0, 1023],"
        " splits: {train: {images: 'img/*.tif', labels: 'lbl/*.tif'}}}"
    )
    out = tmp_path / "out"
    result = ingest("folder", tmp_path / "raw", "--spec", spec, "--out", out)
    assert result.returncode == 0, result.stderr
    _, files = next(read_samples(out / "train-000000.tar"))
    expected = np.rint(scene[..., [2, 1, 0]].astype(np.float32) * np.float32(255 / 1023)).astype(np.uint8)
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(files["png"]))), expected)


def test_what_the_spec_must_say():
    with pytest.raises(UserError, match="4 bands: choose"):
        apply(np.zeros((2, 2, 4), np.uint8), "x.tif", PixelRecipe())
    with pytest.raises(UserError, match="uint16: say what becomes"):
        apply(np.zeros((2, 2, 3), np.uint16), "x.tif", PixelRecipe())
    with pytest.raises(UserError, match="asks for band 5"):
        apply(np.zeros((2, 2, 4), np.uint8), "x.tif", PixelRecipe((5,)))


SPLITS = "splits: {train: {images: 'img/*.tif', labels: 'lbl/*.tif'}}"


def stored(out: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Key -> (pixels, label) of the train split."""
    found = {}
    for key, files in read_samples(out / "train-000000.tar"):
        image = files.get("png")
        pixels = np.load(io.BytesIO(files["npy"])) if image is None else np.asarray(Image.open(io.BytesIO(image)))
        found[key] = (pixels, np.asarray(Image.open(io.BytesIO(files["seg.png"]))))
    return found


@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize(("dtype", "bands"), [("int16", 1), ("uint16", 12), ("float32", 16), ("uint8", 2)])
def test_any_depth_and_number_of_bands(tmp_path: Path, monkeypatch, dtype: str, bands: int, planar: str):
    """By rasterio and by tifffile alike, and as the recipe says by hand."""
    rng = np.random.default_rng(0)
    scene = (
        (rng.normal(300, 200, (50, 60, bands)) - (0 if dtype != "uint8" else 250))
        .clip(0 if dtype.startswith("u") else -500, 255 if dtype == "uint8" else 3000)
        .astype(dtype)
    )
    path = tmp_path / "s.tif"
    held = np.moveaxis(scene, 2, 0) if planar == "separate" else scene
    kind = {} if bands == 1 else {"planarconfig": planar}
    tifffile.imwrite(path, held.squeeze(), photometric="minisblack", tile=(16, 16), compression="zlib", **kind)
    pixels = PixelRecipe(tuple(range(1, bands + 1)), ((-100.0, 900.0),))
    expected = np.rint(np.clip((scene.astype(np.float32) + 100) * np.float32(0.255), 0, 255)).astype(np.uint8)
    source = Source("s.tif", str(path), path.stat().st_size)
    for kind in ("rasterio", "tifffile"):
        if kind == "tifffile":
            monkeypatch.setattr(tiff, "rasterio", lambda: None)
        prepare_scene(source, pixels, tmp_path / f"{kind}.npy")
        np.testing.assert_array_equal(np.load(tmp_path / f"{kind}.npy"), expected)
        np.testing.assert_array_equal(read_pixels(path.read_bytes(), "s.tif", pixels)[0], expected)


def test_percentiles_are_measured_once_and_kept(tmp_path: Path, quick):
    raw = tmp_path / "raw"
    scene, _ = scenes(raw, 4, np.uint16)
    spec = tmp_path / "s.yaml"
    spec.write_text(f"{{name: gf, classes: [a, b, c], bands: [4, 1], percentiles: [2, 98], {SPLITS}}}")
    out = tmp_path / "out"
    result = quick("folder", raw, "--spec", spec, "--out", out, "--tile", "64x64")
    assert result.returncode == 0, result.stderr
    facts = manifest.load(out)
    kept = PixelRecipe.from_dict(facts.pixels)
    low, high = np.percentile(scene[..., [3, 0]].reshape(-1, 2), (2, 98), axis=0)
    assert kept.ranges == ((low[0], high[0]), (low[1], high[1])) and kept.percentiles == (2, 98)
    whole, valid = read_pixels((raw / "img/gf2.tif").read_bytes(), "gf2.tif", kept)  # as prediction does
    assert valid is None
    for sample in manifest.load_shard(out, "train-000000").samples:
        y, x = sample.offset
        np.testing.assert_array_equal(stored(out)[sample.key][0], whole[y : y + 64, x : x + 64])


def geotiff(path: Path, array: np.ndarray, nodata: float | None = None, east: float = 500000.0) -> None:
    rasterio = pytest.importorskip("rasterio")
    path.parent.mkdir(parents=True, exist_ok=True)
    bands = np.moveaxis(np.atleast_3d(array), 2, 0)
    place = {"crs": "EPSG:32632", "transform": rasterio.Affine(0.5, 0, east, 0, -0.5, 5500000.0)}
    with rasterio.open(
        path, "w", driver="GTiff", height=array.shape[0], width=array.shape[1], count=len(bands), dtype=array.dtype,
        nodata=nodata, **place,
    ) as file:  # fmt: skip
        file.write(bands)


@pytest.mark.parametrize("nodata", [0, float("nan")])
def test_no_data_becomes_ignored_and_mean_color_and_tiles_know_their_place(tmp_path: Path, quick, nodata: float):
    rng = np.random.default_rng(0)
    deep = np.isnan(nodata)
    scene = rng.integers(1, 256, (40, 60, 3)).astype(np.float32 if deep else np.uint8)
    scene[:, :20] = nodata
    scene[0, 40, 0] = 0  # dark in one band alone: data
    mask = rng.integers(0, 2, (40, 60), dtype=np.uint8)
    geotiff(tmp_path / "raw/img/s.tif", scene, nodata)
    geotiff(tmp_path / "raw/lbl/s.tif", mask)
    spec = tmp_path / "s.yaml"
    spec.write_text(f"{{name: geo, classes: [a, b], {'range: [0, 255], ' if deep else ''}{SPLITS}}}")
    out = tmp_path / "out"
    result = quick("folder", tmp_path / "raw", "--spec", spec, "--out", out, "--tile", "40x40+20")
    assert result.returncode == 0, result.stderr
    facts = manifest.load(out)
    fill = facts.pixels["fill"]
    np.testing.assert_allclose(fill, scene[:, 20:].reshape(-1, 3).mean(0), atol=1.0)
    left, left_label = stored(out)["s_y0_x0"]
    assert (left[:, :20] == fill).all() and (left_label[:, :20] == 255).all()
    np.testing.assert_array_equal(left[:, 20:], scene[:, 20:40].astype(np.uint8))
    np.testing.assert_array_equal(left_label[:, 20:], mask[:, 20:40])
    assert (stored(out)["s_y0_x20"][1] == mask[:, 20:60]).all()
    geo = {sample.key: sample.geo for sample in manifest.load_shard(out, "train-000000").samples}
    assert geo["s_y0_x20"] == {"crs": "EPSG:32632", "transform": [0.5, 0, 500010.0, 0, -0.5, 5500000.0]}
    assert quick("verify", out, "--deep").returncode == 0
    for number, tile in enumerate(([], ["--tile", "25x60"])):  # as wide as the scene
        whole = tmp_path / f"whole{number}"
        result = quick("folder", tmp_path / "raw", "--spec", spec, "--out", whole, *tile)
        assert result.returncode == 0, result.stderr
        label = stored(whole)["s_y0_x0"][1]
        assert (label[:, :20] == 255).all() and (label[:, 20:] == mask[: len(label), 20:]).all()


def test_a_label_on_another_grid_is_refused(tmp_path: Path, quick):
    scene = np.ones((8, 9, 3), np.uint8)
    geotiff(tmp_path / "raw/img/s.tif", scene)
    geotiff(tmp_path / "raw/lbl/s.tif", np.indices((8, 9))[0].astype(np.uint8) % 2, east=500003.0)
    spec = tmp_path / "s.yaml"
    spec.write_text(f"{{name: geo, classes: [a, b], {SPLITS}}}")
    result = quick("folder", tmp_path / "raw", "--spec", spec, "--out", tmp_path / "out")
    assert result.returncode == 2 and len(result.stderr.splitlines()) == 1
    assert "lie on different grids (EPSG:32632 at 500000, 5500000" in result.stderr and "500003" in result.stderr


def test_max_side_does_not_go_with_bands(tmp_path: Path, quick):
    scenes(tmp_path / "raw", 4, np.uint8)
    spec = tmp_path / "s.yaml"
    spec.write_text(f"{{name: gf, classes: [a, b, c], bands: [1, 2, 3], {SPLITS}}}")
    result = quick("folder", tmp_path / "raw", "--spec", spec, "--out", tmp_path / "out", "--max-side", 20)
    assert result.returncode == 2 and "--max-side" in result.stderr


@pytest.mark.slow
def test_a_scene_is_never_in_memory_as_a_whole(tmp_path: Path):
    """12,000 x 12,000 pixels of 16 bits, 288 MB, in a process that may take 200 MB more than it began with."""
    rasterio = pytest.importorskip("rasterio")
    path = tmp_path / "big.tif"
    with rasterio.open(
        path, "w", driver="GTiff", height=12000, width=12000, count=1, dtype="uint16", tiled=True, compress="deflate"
    ) as file:
        for row in range(0, 12000, 256):
            rows = min(256, 12000 - row)
            band = np.full((rows, 12000), row % 1000, np.uint16)
            file.write(band, 1, window=rasterio.windows.Window(0, row, 12000, rows))
    code = (
        "import sys, resource, pathlib; from ingest.pixels import rasters;"
        "from ingest.pixels.recipe import PixelRecipe;"
        "from ingest.sources.archives import Source; import rasterio, tifffile; p = pathlib.Path(sys.argv[1]);"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss;"
        "rasters.prepare_scene(Source('big.tif', str(p), p.stat().st_size), PixelRecipe((1,), ((0, 1000),)),"
        " p.with_suffix('.npy'));"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 200_000  # kB
    assert np.load(tmp_path / "big.npy", mmap_mode="r").shape == (12000, 12000, 1)


def test_broken_scenes_are_left_out_under_skip_bad(tmp_path: Path, quick):
    raw = tmp_path / "raw"
    scenes(raw, 4, np.uint8)
    whole = (raw / "img/gf2.tif").read_bytes()
    (raw / "img/cut.tif").write_bytes(whole[: len(whole) // 2])  # its head is sound
    (raw / "img/junk.tif").write_bytes(b"II*\0junk")
    (raw / "img/other.tif").write_bytes(whole)
    tifffile.imwrite(raw / "lbl/other.tif", np.zeros((100, 131), np.uint8))  # of another size
    for name in ("cut", "junk"):
        (raw / f"lbl/{name}.tif").write_bytes((raw / "lbl/gf2.tif").read_bytes())
    (raw / "img/gone.tif").symlink_to("nowhere")
    (raw / "lbl/gone.tif").write_bytes(b"")
    spec = tmp_path / "s.yaml"
    spec.write_text(f"{{name: gf, classes: [a, b, c], bands: [1, 2, 3], {SPLITS}}}")
    words = ("folder", raw, "--spec", spec, "--out", tmp_path / "out", "--tile", "64x64")
    result = quick(*words)
    assert result.returncode == 2 and len(result.stderr.strip().splitlines()) == 1
    result = quick(*words, "--skip-bad")
    assert result.returncode == 0, result.stderr
    split = manifest.load(tmp_path / "out").splits["train"]
    assert split.samples == 6 and {one.file.split("/")[-1] for one in split.skipped} == {
        "cut.tif", "junk.tif", "other.tif", "gone.tif",
    }  # fmt: skip
