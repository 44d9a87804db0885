"""Scenes of many bands and bits: tiles cover them, remember where they were, and lose nothing."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ingest.errors import UserError
from ingest.pixels.rasters import Tile, windows
from ingest.pixels.recipe import PixelRecipe, apply
from ingest.shards import manifest
from ingest.shards.tar import read_samples

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
