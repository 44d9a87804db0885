"""Masks of every kind to mode-L PNGs of train ids."""

from __future__ import annotations

import io
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ingest.errors import UserError
from ingest.keys import make_keys
from ingest.pixels.labels import LabelMap, identity, normalise

IDS = np.random.default_rng(0).integers(0, 3, (10, 14)).astype(np.uint8)
CLASSES = ["a", "b", "c"]


def png(image: Image.Image, **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, "PNG", **options)
    return out.getvalue()


def test_a_ready_mask_is_stored_with_rows_that_need_no_filter():
    data = png(Image.fromarray(IDS))
    stored, ids, counts = normalise(data, "x", identity(3), CLASSES)
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(stored))), IDS)
    rows = zlib.decompress(stored[stored.index(b"IDAT") + 4 :])
    assert rows == b"".join(b"\0" + row.tobytes() for row in IDS)
    assert counts.tolist() == np.bincount(IDS.ravel(), minlength=256).tolist()
    np.testing.assert_array_equal(ids, IDS)


@pytest.mark.parametrize("kind", ["palette", "16 bit", "2 bit", "4 bit palette", "1 bit"])
def test_index_masks_of_any_depth(kind: str):
    ids = IDS % 2 if kind == "1 bit" else IDS
    image = Image.fromarray(ids)
    options: dict[str, object] = {}
    if "palette" in kind:
        image.putpalette([9, 9, 9, 200, 0, 0, 0, 200, 0])
        options = {"bits": 4} if kind.startswith("4") else {}
    elif kind == "16 bit":
        image = Image.fromarray(ids.astype(np.uint16))
    elif kind == "1 bit":
        image = Image.fromarray(ids > 0)
    data = two_bit_png(ids) if kind == "2 bit" else png(image, **options)
    stored, _, _ = normalise(data, "x", identity(3), CLASSES)
    opened = Image.open(io.BytesIO(stored))
    assert opened.mode == "L"
    np.testing.assert_array_equal(np.asarray(opened), ids)


def two_bit_png(ids: np.ndarray) -> bytes:
    """A greyscale PNG of two bits a pixel, which Pillow does not write (PNG specification, section 11.2.2)."""
    import struct
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width = ids.shape
    padded = np.pad(ids, ((0, 0), (0, -width % 4)))
    packed = (padded[:, 0::4] << 6) | (padded[:, 1::4] << 4) | (padded[:, 2::4] << 2) | padded[:, 3::4]
    rows = b"".join(b"\0" + row.tobytes() for row in packed.astype(np.uint8))
    head = struct.pack(">IIBBBBB", width, height, 2, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def test_unknown_values_and_colours_are_named():
    with pytest.raises(UserError, match=r"mask\.png holds the value 2 .* 0\.\.1"):
        normalise(png(Image.fromarray(IDS)), "mask.png", identity(2), CLASSES[:2])
    colours = Image.fromarray(np.full((4, 4, 3), 7, np.uint8))
    with pytest.raises(UserError, match="colour image"):
        normalise(png(colours), "mask.png", identity(2), CLASSES[:2])
    with pytest.raises(UserError, match=r"\[7, 7, 7\] \(16 pixels\)"):
        normalise(png(colours), "mask.png", LabelMap({}, {(1, 2, 3): 0}), CLASSES[:1])


def test_keys_are_safe_short_unique_and_stable():
    names = [
        ("train", "a/plain-name_1.jpg"),
        ("train", "a/with dots.v2.jpg"),
        ("train", "a/" + "long" * 30 + ".png"),
        ("train", "b/twin.jpg"),
        ("val", "c/TWIN.png"),
        ("val", "straße/фото 1.jpg"),
    ]
    samples = [(split, name, Path(name).stem) for split, name in names]
    keys = make_keys(samples)
    assert keys[0] == "plain-name_1" and keys == make_keys(samples)
    assert len({key.lower() for key in keys}) == len(keys)
    for key in keys:
        assert 0 < len(key) <= 60 and all(c.isascii() and (c.isalnum() or c in "-_") for c in key)
