"""Files of 16 bits a value, shown to a net that was trained on pictures of 8: what is said of them."""

from __future__ import annotations

from collections.abc import Sequence

from ingest.pixels import raw, tiff
from ingest.pixels.decode import is_tiff
from ingest.shards.wording import count

_DARK = 64  # of 255: below it the high bytes leave a picture at a quarter of its brightness, or less


def largest_value(data: bytes, name: str) -> int | None:
    """Of a file of 16 bits a value, 0..65535; None for any other file. UserError where it is broken."""
    deep = raw.is_deep_png(data) or (is_tiff(data) and tiff.facts_of(data, name).dtype == "uint16")
    return int(raw.raw_pixels(data, name).max()) if deep else None


def note(largest: Sequence[int]) -> str:
    """One line about such files, for their largest values: what was measured, what was done, and the remedy."""
    top = max(largest)
    told = (
        f"{count(len(largest), 'file')} of 16 bits a value, the largest {top:,}: the net was trained on 8-bit "
        f"pictures, so it was shown the high bytes, 0..{top >> 8} of 255"
    )
    if top >> 8 >= _DARK:
        return f"note: {told}"
    full = (1 << top.bit_length()) - 1
    return (
        f"warning: {told}, nearly black: save them as 8 bits with {full:,} as white, or ingest such files with "
        f"`range: [0, {full}]` in the spec and train on those"
    )
