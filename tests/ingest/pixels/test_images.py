"""What goes in byte for byte, what is converted, and that converting loses nothing."""

from __future__ import annotations

import io

import numpy as np
import pytest
import simplejpeg
from PIL import Image

from ingest.errors import UserError
from ingest.pixels.images import Format, normalize
from ingest.pixels.raw import read_pixels
from ingest.pixels.recipe import PixelRecipe

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (20, 30, 3), dtype=np.uint8)
KEEP = Format()


def encoded(image: Image.Image, form: str, **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, form, **options)
    return out.getvalue()


def decoded(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)))


@pytest.mark.parametrize("form", ["JPEG", "PNG"])
def test_plain_files_go_through(form: str):
    data = encoded(Image.fromarray(RGB), form)
    stored = normalize(data, "x", (20, 30), KEEP)
    assert stored.data == data and (stored.height, stored.width) == (20, 30)
    pixels = decoded(data).reshape(-1, 3).astype(np.int64)
    assert stored.channel_sum == pixels.sum(0).tolist()
    assert stored.channel_square_sum == (pixels**2).sum(0).tolist()


@pytest.mark.parametrize(
    ("image", "form", "options"),
    [
        (Image.fromarray(RGB[..., 0]), "JPEG", {}),
        (Image.fromarray(RGB).convert("CMYK"), "JPEG", {}),
        (Image.fromarray(RGB), "JPEG", {"progressive": True}),
        (Image.fromarray(RGB).quantize(16), "PNG", {}),
        (Image.fromarray(RGB).convert("RGBA"), "PNG", {}),
        (Image.fromarray(RGB[..., 0]).convert("1"), "PNG", {}),
        (Image.fromarray(RGB), "TIFF", {}),
        (Image.fromarray(RGB), "BMP", {}),
    ],
)
def test_others_become_rgb_png_without_loss(image: Image.Image, form: str, options: dict[str, object]):
    data = encoded(image, form, **options)
    stored = normalize(data, "x", (20, 30), KEEP)
    assert stored.ext == "png"
    np.testing.assert_array_equal(decoded(stored.data), np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))
    # and prediction sees the same
    np.testing.assert_array_equal(decoded(stored.data), read_pixels(data, "x", PixelRecipe())[0])


def test_16_bits_keep_their_high_byte():
    wide = RNG.integers(0, 65536, (20, 30), dtype=np.uint16)
    stored = normalize(encoded(Image.fromarray(wide), "PNG"), "x", None, KEEP)
    np.testing.assert_array_equal(decoded(stored.data), np.repeat((wide >> 8)[..., None], 3, 2))
    data = encoded(Image.fromarray(wide), "PNG")
    np.testing.assert_array_equal(decoded(stored.data), read_pixels(data, "x", PixelRecipe())[0])


def rotated(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(Image.fromarray(RGB), "JPEG", exif=exif)


def test_exif_tag_goes_and_the_pixels_stay_where_the_label_fits_them():
    data = rotated(6)
    stored = normalize(data, "x", (20, 30), KEEP)
    assert stored.ext == "jpg" and (stored.height, stored.width) == (20, 30)
    assert 0x0112 not in Image.open(io.BytesIO(stored.data)).getexif()
    np.testing.assert_array_equal(decoded(stored.data), decoded(data))


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_exif_is_applied_where_the_label_fits_the_upright_picture(orientation: int):
    from PIL import ImageOps

    data = rotated(orientation)
    stored = normalize(data, "x", (30, 20), KEEP)
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    assert stored.ext == "png"
    np.testing.assert_array_equal(decoded(stored.data), np.asarray(upright))


def test_formats_and_sizes():
    png = encoded(Image.fromarray(RGB), "PNG")
    stored = normalize(png, "x", (20, 30), Format("jpeg", 95))
    assert stored.ext == "jpg"
    assert stored.channel_sum == decoded(stored.data).reshape(-1, 3).sum(0, dtype=np.int64).tolist()
    jpeg = encoded(Image.fromarray(RGB), "JPEG")
    assert normalize(jpeg, "x", None, Format("jpeg", 50)).data == jpeg  # never coded twice
    stored = normalize(jpeg, "x", None, Format("png"))
    np.testing.assert_array_equal(decoded(stored.data), decoded(jpeg))
    stored = normalize(png, "x", (20, 30), Format(max_side=15))
    assert (stored.height, stored.width) == decoded(stored.data).shape[:2] == (10, 15)


@pytest.mark.parametrize("data", [b"", b"junk", encoded(Image.fromarray(RGB), "PNG")[:-60]])
def test_broken_files_are_named(data: bytes):
    with pytest.raises(UserError, match="the-file"):
        normalize(data, "the-file", None, KEEP)


def test_a_jpeg_that_decodes_with_a_warning_is_stored_as_its_pixels():
    buffer = io.BytesIO()
    Image.fromarray(RGB).save(buffer, "JPEG", quality=95)
    data = buffer.getvalue()
    stray = data[:-2] + bytes(8) + data[-2:]  # bytes before the end marker: every viewer shows it, libjpeg warns
    with pytest.raises(ValueError, match="extraneous bytes"):
        simplejpeg.decode_jpeg(stray)
    stored = normalize(stray, "x.jpg", None, Format())
    assert stored.ext == "png"
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(stored.data))), np.asarray(Image.open(buffer)))
    assert normalize(data, "x.jpg", None, Format()).data == data
