"""TIFFs: what a file claims is held against the file before memory is taken; bands and depths that need the spec."""

from __future__ import annotations

import contextlib
import io
import struct
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from ingest.errors import UserError
from ingest.pixels import images, raw, tiff
from ingest.pixels.decode import MAX_PIXELS
from ingest.pixels.images import Format
from ingest.pixels.labels import identity, normalize
from ingest.pixels.masks import read_mask
from ingest.pixels.recipe import PixelRecipe
from ingest.sources.archives import Source


def source(path: Path) -> Source:
    return Source(path.name, str(path), path.stat().st_size)


def tags(*entries: tuple[int, int, list[int]], data: bytes = b"") -> bytes:
    """A little-endian TIFF of one directory: (tag, type, values); `data` lies at byte 8."""
    kinds = {3: "H", 4: "I", 16: "Q"}
    body, extra = b"", b""
    start = 8 + len(data) + 2 + 12 * len(entries) + 4
    for tag, kind, values in sorted(entries):
        packed = struct.pack(f"<{len(values)}{kinds[kind]}", *values)
        if len(packed) > 4:
            body += struct.pack("<HHII", tag, kind, len(values), start + len(extra))
            extra += packed
        else:
            body += struct.pack("<HHI", tag, kind, len(values)) + packed.ljust(4, b"\0")
    head = struct.pack("<2sHI", b"II", 42, 8 + len(data))
    return head + data + struct.pack("<H", len(entries)) + body + struct.pack("<I", 0) + extra


def claim(width: int, height: int, bits: int = 8, tile: int = 256, packed: bytes = b"", compression: int = 8) -> bytes:
    """A tiled TIFF of one listed tile that claims a picture of that size."""
    size = 4
    return tags(
        (256, size, [width]), (257, size, [height]), (258, 3, [bits]), (259, 3, [compression]), (262, 3, [1]),
        (277, 3, [1]), (322, size, [tile]), (323, size, [tile]), (324, size, [8]), (325, size, [len(packed)]),
        data=packed,
    )  # fmt: skip


CLAIMS = {
    "100,000 a side": claim(100_000, 100_000),
    "2^31 a side": claim(2**31, 2**31),
    "one tile for all": claim(60_000, 60_000, tile=65536),
    "64-bit samples": claim(30_000, 30_000, bits=64, tile=32768),
}


def readers(data: bytes, path: Path) -> list[Callable[[], object]]:
    path.write_bytes(data)
    return [
        lambda: normalize(data, "x.tif", identity(2), ["a", "b"]),
        lambda: images.normalize(data, "x.tif", None, Format()),
        lambda: raw.read_pixels(data, "x.tif", PixelRecipe((1,), ((0.0, 9.0),))),
        lambda: tiff.read(data, "x.tif"),
        lambda: list(tiff.strips(source(path), tiff.facts(source(path)))),
    ]


@pytest.mark.parametrize("kind", CLAIMS)
def test_claims_are_refused_before_memory_is_taken(tmp_path: Path, kind: str) -> None:
    tracemalloc.start()
    try:
        for read in readers(CLAIMS[kind], tmp_path / "x.tif"):
            with pytest.raises(UserError, match=r"x\.tif"):
                read()
        assert tracemalloc.get_traced_memory()[1] < 40 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("megabytes", [100, 256])
def test_a_tile_that_unpacks_to_too_much(tmp_path: Path, megabytes: int) -> None:
    """tifffile would unpack it all, so it is refused; Pillow and GDAL stop where the tile is full."""
    data = claim(256, 256, packed=zlib.compress(bytes(megabytes << 20), 9))
    tracemalloc.start()
    try:
        with pytest.raises(UserError, match=r"x\.tif holds a tile"):
            tiff.read(data, "x.tif")
        for read in readers(data, tmp_path / "x.tif"):
            with contextlib.suppress(UserError):
                read()
        assert tracemalloc.get_traced_memory()[1] < 40 << 20
    finally:
        tracemalloc.stop()


def png_claim(width: int, height: int) -> bytes:
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + head
    return (
        b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))
        + struct.pack(">I", 0) + b"IDAT" + struct.pack(">I", zlib.crc32(b"IDAT"))
    )  # fmt: skip


def bmp_claim(width: int, height: int) -> bytes:
    return b"BM" + struct.pack("<IHHIIiiHHIIiiII", 60, 0, 0, 54, 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)


@pytest.mark.parametrize("data", [png_claim(60_000, 60_000), bmp_claim(60_000, 60_000), claim(60_000, 60_000)])
def test_60_000_a_side_is_refused_with_the_limit(data: bytes) -> None:
    limit = f"{MAX_PIXELS:,}"
    tracemalloc.start()
    try:
        for read in (
            lambda: images.normalize(data, "big", None, Format()),
            lambda: read_mask(data, "big", False),
            lambda: raw.read_pixels(data, "big", PixelRecipe(ranges=((0.0, 1.0),))),
        ):
            with pytest.raises(UserError, match="big claims") as error:
                read()
            assert limit in str(error.value) or "is damaged" in str(error.value)
        assert tracemalloc.get_traced_memory()[1] < 10 << 20
    finally:
        tracemalloc.stop()


def test_four_bands_are_told_by_name_and_read_with_bands(tmp_path: Path) -> None:
    scene = np.random.default_rng(0).integers(0, 256, (20, 30, 4), dtype=np.uint8)
    out = io.BytesIO()
    tifffile.imwrite(out, scene, photometric="rgb", extrasamples=[0])
    with pytest.raises(UserError, match=r"x\.tif has 4 bands of uint8: .*`bands: \[1, 2, 3\]`"):
        images.normalize(out.getvalue(), "x.tif", None, Format())
    alpha = io.BytesIO()
    Image.fromarray(scene, "RGBA").save(alpha, "TIFF")  # called alpha, as GDAL does with a fourth band
    with pytest.raises(UserError, match="4 bands"):
        images.normalize(alpha.getvalue(), "x.tif", None, Format())
    pixels, valid = raw.read_pixels(alpha.getvalue(), "x.tif", PixelRecipe((4, 3, 1)))
    np.testing.assert_array_equal(pixels, scene[..., [3, 2, 0]])
    assert valid is None


@pytest.mark.parametrize(
    ("dtype", "words"), [(np.uint16, "3 bands of uint16"), (np.float32, "3 bands of float32"), (np.int16, "int16")]
)
def test_deep_bands_need_a_range(dtype: type, words: str) -> None:
    out = io.BytesIO()
    tifffile.imwrite(out, np.zeros((8, 9, 3), dtype), photometric="rgb")
    with pytest.raises(UserError, match=words):
        images.normalize(out.getvalue(), "x.tif", None, Format())


@pytest.mark.parametrize("kind", ["palette", "cmyk", "1 bit", "grey", "rgb"])
def test_pictures_in_tiffs_are_read_as_pictures(kind: str) -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    image = Image.fromarray(rgb)
    image = {
        "palette": image.quantize(16), "cmyk": image.convert("CMYK"), "1 bit": image.convert("1"),
        "grey": image.convert("L"), "rgb": image,
    }[kind]  # fmt: skip
    out = io.BytesIO()
    image.save(out, "TIFF")
    expected = np.asarray(image.convert("RGB"))
    stored = images.normalize(out.getvalue(), "x.tif", None, Format())
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(stored.data))), expected)
    np.testing.assert_array_equal(raw.read_pixels(out.getvalue(), "x.tif", PixelRecipe())[0], expected)


def test_12_bits_in_16_are_told_with_their_maximum(tmp_path: Path, quick) -> None:
    rng = np.random.default_rng(0)
    for kind in ("img", "lbl"):
        (tmp_path / f"raw/{kind}").mkdir(parents=True)
    deep = rng.integers(0, 4096, (2, 20, 30)).astype(np.uint16)
    for number, one in enumerate(deep):
        one[0, 0] = 4012
        Image.fromarray(np.minimum(one, 4012)).save(tmp_path / f"raw/img/{number}.png")
        Image.fromarray(rng.integers(0, 2, (20, 30), dtype=np.uint8)).save(tmp_path / f"raw/lbl/{number}.png")
    spec = tmp_path / "s.yaml"
    text = "{name: s, classes: [a, b], splits: {train: {images: 'img/*', labels: 'lbl/*'}}"
    spec.write_text(text + "}")
    result = quick("folder", tmp_path / "raw", "--spec", spec, "--out", tmp_path / "out")
    assert "largest value is 4,012 (2 looked at)" in result.stderr and "`range: [0, 4095]`" in result.stderr
    spec.write_text(text + ", range: [0, 4095]}")
    result = quick("folder", tmp_path / "raw", "--spec", spec, "--out", tmp_path / "out2")
    assert result.returncode == 0 and "largest" not in result.stderr
    from ingest.shards import manifest

    assert 0.45 < manifest.load(tmp_path / "out2").mean[0] < 0.55 > 8 * manifest.load(tmp_path / "out").mean[0]
