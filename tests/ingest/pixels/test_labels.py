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
from ingest.pixels.labels import LabelMap, identity, normalize

IDS = np.random.default_rng(0).integers(0, 3, (10, 14)).astype(np.uint8)
CLASSES = ["a", "b", "c"]


def png(image: Image.Image, **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, "PNG", **options)
    return out.getvalue()


def test_a_ready_mask_is_stored_with_rows_that_need_no_filter():
    data = png(Image.fromarray(IDS))
    label = normalize(data, "x", identity(3), CLASSES)
    stored, ids, counts = label.png, label.ids, label.pixels
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
    stored = normalize(data, "x", identity(3), CLASSES).png
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


def test_unknown_values_and_colors_are_named():
    with pytest.raises(UserError, match=r"mask\.png holds the value 2 .* 0\.\.1"):
        normalize(png(Image.fromarray(IDS)), "mask.png", identity(2), CLASSES[:2])
    colors = Image.fromarray(np.full((4, 4, 3), 7, np.uint8))
    with pytest.raises(UserError, match=r"color image.*`colors:"):
        odd = Image.fromarray(np.full((4, 4, 3), (7, 7, 9), np.uint8))
        normalize(png(odd), "mask.png", identity(2), CLASSES[:2])
    with pytest.raises(UserError, match=r"\[7, 7, 7\] \(16 pixels\)"):
        normalize(png(colors), "mask.png", LabelMap({}, {(1, 2, 3): 0}), CLASSES[:1])


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


def saved(array: np.ndarray, form: str) -> bytes:
    out = io.BytesIO()
    if form == "npy":
        np.save(out, array)
    elif form == "mat":
        import scipy.io

        scipy.io.savemat(out, {"whatever": array.astype(np.float64)})
    elif form == "tiff16":
        import tifffile

        tifffile.imwrite(out, array.astype(np.float32))  # of a kind that Pillow opens, with whole numbers
    else:
        Image.fromarray(array).save(out, form)
    return out.getvalue()


@pytest.mark.parametrize(
    ("form", "name"),
    [("npy", "x.npy"), ("mat", "x.mat"), ("tiff16", "x.tif"), ("TIFF", "x.tif"), ("BMP", "x.bmp"), ("GIF", "x.gif")],
)
def test_index_masks_of_any_format(form: str, name: str):
    np.testing.assert_array_equal(normalize(saved(IDS, form), name, identity(3), CLASSES).ids, IDS)


def test_grey_saved_as_rgb_holds_indices():
    data = png(Image.fromarray(np.repeat(IDS[..., None], 3, 2)))
    np.testing.assert_array_equal(normalize(data, "x.png", identity(3), CLASSES).ids, IDS)


COLORS = {(0, 0, 0): 255, (200, 30, 30): 0, (30, 200, 30): 1}


@pytest.mark.parametrize("form", ["PNG", "palette", "TIFF", "BMP", "npy"])
def test_color_masks_of_any_format(form: str):
    rgb = np.array(list(COLORS), np.uint8)[IDS]
    data = png(Image.fromarray(rgb).quantize(8)) if form == "palette" else saved(rgb, form)
    found = normalize(data, "x.npy" if form == "npy" else "x.png", LabelMap({}, COLORS), CLASSES[:2])
    np.testing.assert_array_equal(found.ids, np.array([255, 0, 1], np.uint8)[IDS])


def test_black_and_white_masks_by_color():
    data = png(Image.fromarray(np.uint8([[0, 255]])))
    mapping = LabelMap({}, {(0, 0, 0): 0, (255, 255, 255): 1})
    assert normalize(data, "x.png", mapping, CLASSES[:2]).ids.tolist() == [[0, 1]]


def test_soft_edges_take_the_nearest_color_or_are_ignored_and_counted():
    rgb = np.uint8([[[200, 30, 30], [190, 40, 35], [115, 115, 30], [30, 200, 30], [0, 9, 0]]])
    found = normalize(png(Image.fromarray(rgb)), "x.png", LabelMap({}, COLORS, tolerance=20), CLASSES[:2])
    assert found.ids.tolist() == [[0, 0, 255, 1, 255]] and found.unmatched == 1


def test_jpeg_masks_are_told_of_tolerance_and_read_with_it():
    rgb = np.kron(np.array(list(COLORS), np.uint8)[IDS].transpose(2, 0, 1), np.ones((16, 16), np.uint8))
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(rgb.transpose(1, 2, 0))).save(buffer, "JPEG", quality=90)
    with pytest.raises(UserError, match="`tolerance: 40`"):
        normalize(buffer.getvalue(), "x.jpg", LabelMap({}, COLORS), CLASSES[:2])
    found = normalize(buffer.getvalue(), "x.jpg", LabelMap({}, COLORS, tolerance=40), CLASSES[:2])
    truth = np.kron(np.array([255, 0, 1], np.uint8)[IDS], np.ones((16, 16), np.uint8))
    assert 0 < found.unmatched < 0.1 * truth.size
    assert (found.ids == truth).mean() > 0.9


def test_a_mat_file_with_several_matrices_needs_a_name():
    import scipy.io

    out = io.BytesIO()
    scipy.io.savemat(out, {"mask": IDS, "depth": IDS * 2.5})
    with pytest.raises(UserError, match=r"mask, depth.*`variable"):
        normalize(out.getvalue(), "x.mat", identity(3), CLASSES)
    mapping = LabelMap({0: 0, 1: 1, 2: 2}, {}, variable="mask")
    np.testing.assert_array_equal(normalize(out.getvalue(), "x.mat", mapping, CLASSES).ids, IDS)
    with pytest.raises(UserError, match="no matrix 'masks'"):
        normalize(out.getvalue(), "x.mat", LabelMap({}, {}, variable="masks"), CLASSES)


@pytest.mark.parametrize(
    ("array", "words"),
    [(IDS * 0.5, "fractions"), (IDS - 7.0, "outside 0..65535"), (np.array([[object()]]), "objects"), (IDS[0], "shape")],
)
def test_arrays_that_are_no_mask(array: np.ndarray, words: str):
    out = io.BytesIO()
    np.save(out, array, allow_pickle=True)
    with pytest.raises(UserError, match=words):
        normalize(out.getvalue(), "x.npy", identity(3), CLASSES)


def test_an_array_that_claims_more_than_it_holds():
    out = io.BytesIO()
    np.lib.format.write_array_header_1_0(out, {"descr": "|u1", "fortran_order": False, "shape": (60000, 60000)})
    with pytest.raises(UserError, match="claims an array"):
        normalize(out.getvalue(), "x.npy", identity(3), CLASSES)


@pytest.mark.parametrize("shape", [(1, *IDS.shape), (*IDS.shape, 1)])
def test_arrays_with_an_axis_of_one_channel(shape: tuple[int, ...]) -> None:
    out = io.BytesIO()
    np.save(out, IDS.reshape(shape))
    np.testing.assert_array_equal(normalize(out.getvalue(), "x.npy", identity(3), CLASSES).ids, IDS)
