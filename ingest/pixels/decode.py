"""Image files to pixels by Pillow, with every fault of a file told in one line and no claim of size believed unseen."""

from __future__ import annotations

import io
import logging
import re
import warnings

from PIL import Image

from ingest.errors import UserError

# Pixels of one image: what Pillow, too, takes for an attack (a 16-bit RGBA image of that many fills 1.4 GB). It is
# checked on the header, before memory is taken. Larger scenes are TIFFs, which are read in strips (`rasters`).
ORIENTATION = 0x0112  # EXIF tag: 1 upright, 2 to 4 turned by 180 degrees or mirrored, 5 to 8 lying
MAX_PIXELS = 178_956_970
_SMALLER = "cut it into pieces, or save it as a TIFF, which is read in parts (at ingest: `bands` in the spec, --tile)"
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)  # Pillow's, at half of that
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")  # odd tags; what matters is an error
logging.getLogger("PIL").addHandler(logging.NullHandler())


def decode_image(data: bytes, name: str) -> Image.Image:
    """A fully decoded image; UserError names the broken file."""
    try:
        image = Image.open(io.BytesIO(data))
        _check_size(image, name)
        image.load()
        return image
    except UserError:
        raise
    except Exception as error:  # Pillow raises OSError, SyntaxError, ValueError, struct.error... by kind of damage
        raise _told(error, name, "fetch the file again or remove it") from error


def image_size(data: bytes, name: str, upright: bool = False) -> tuple[int, int]:
    """(height, width) as the pixels lie in the file, or as its EXIF tag turns them, from its header alone.

    UserError names a broken file.
    """
    try:
        with Image.open(io.BytesIO(data)) as image:
            _check_size(image, name)
            lying = upright and image.getexif().get(ORIENTATION, 1) in (5, 6, 7, 8)
            return (image.width, image.height) if lying else (image.height, image.width)
    except UserError:
        raise
    except Exception as error:
        raise _told(error, name, "fetch the file again or remove it") from error


def is_tiff(data: bytes) -> bool:
    """By its first four bytes; the last two are BigTIFF's."""
    return data[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def _check_size(image: Image.Image, name: str) -> None:
    if image.width * image.height > MAX_PIXELS:
        raise UserError(
            f"{name} claims {image.width}x{image.height} pixels, the limit is {MAX_PIXELS:,} pixels an image: "
            f"{_SMALLER}"
        )


def _told(error: Exception, name: str, remedy: str) -> UserError:
    if isinstance(error, Image.DecompressionBombError):
        return UserError(
            f"{name} claims more than the limit of {MAX_PIXELS:,} pixels an image{_claimed(error)}: {_SMALLER}"
        )
    reason = "not an image" if "cannot identify" in str(error) else str(error) or type(error).__name__
    return UserError(f"{name} cannot be decoded ({reason}): {remedy}")


def _claimed(error: Exception) -> str:
    """The number of pixels in Pillow's message, where it tells one."""
    found = re.search(r"\d{6,}", str(error))
    return f", {int(found[0]):,}" if found else ""
