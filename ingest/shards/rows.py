"""Images stored as decoded pixels (`--image-format raw`, or of other than three channels): a .npy file, row by row.

Decoding costs nothing, and a crop needs only the rows that it touches. Since those are read without the rest of the
file, each block of 32 rows has a CRC-32 of its own in the shard's record.
"""

from __future__ import annotations

import io

import deflate
import numpy as np
from numpy.typing import NDArray

BLOCK = 32  # rows: a 2048-pixel wide RGB image is read in pieces of 192 kB
_MAGIC = b"\x93NUMPY\x01\x00"


def encode(pixels: NDArray[np.uint8]) -> bytes:
    """uint8 [H, W, C] -> a .npy file (version 1.0, C order). The pixels lie at its end."""
    out = io.BytesIO()
    np.save(out, pixels, allow_pickle=False)
    return out.getvalue()


def decode(content: NDArray[np.uint8], shape: tuple[int, int, int]) -> NDArray[np.uint8]:
    """A whole .npy file, uint8 [bytes] -> its pixels [H, W, C], a view. ValueError unless it has just that shape."""
    start = 10 + int(content[8]) + 256 * int(content[9]) if content.size > 10 else content.size
    data = content[start:]
    if content[:8].tobytes() != _MAGIC or data.size != np.prod(shape):
        raise ValueError(f"no .npy of shape {list(shape)}")
    return data.reshape(shape)


def block_sums(pixels: NDArray[np.uint8]) -> list[int]:
    """uint8 [H, W, C] -> the CRC-32 of each block of 32 rows; the last block may be shorter."""
    contiguous = np.ascontiguousarray(pixels)
    return [deflate.crc32(contiguous[top : top + BLOCK].data.cast("B")) for top in range(0, len(contiguous), BLOCK)]
