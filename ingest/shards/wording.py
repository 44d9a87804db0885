"""Counts and shares as people read them: `1 image`, `2 images`, `<0.1%`."""

from __future__ import annotations


def share(part: float, whole: float, digits: int = 1) -> str:
    """A part of a whole: `12.3%`; `-` of nothing, and `<0.1%` where rounding would make something look like nothing."""
    if not part or not whole:
        return "-"
    least = 10**-digits
    percent = 100 * part / whole
    return f"<{least:.{digits}f}%" if percent < least else f"{percent:.{digits}f}%"


def count(number: int, noun: str, plural: str | None = None) -> str:
    """`1 image`, `1,234 images`, `2 classes`. plural: where it is not the noun with an s or es."""
    plural = plural or noun + ("es" if noun.endswith("s") else "s")
    return f"{number:,} {noun if number == 1 else plural}"


def human_bytes(count: float) -> str:
    """1234567 -> '1.2 MB' (decimal units, as --shard-size)."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"
