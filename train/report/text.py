"""Numbers, times and data as the report writes them."""

from __future__ import annotations

import json
import time
from typing import Any


def number(value: float) -> str:
    """At most four digits, or all of a whole number: `0.003`, `12.35`, `57,600`."""
    if abs(value) >= 10_000 or (value == int(value) and abs(value) < 1e15):
        return f"{value:,.0f}"
    return f"{value:.4g}"


def percent(value: float | None) -> str:
    """A share of one as `52.60%`; a dash where there is none."""
    return "–" if value is None else f"{100 * value:.2f}%"


def duration(seconds: float) -> str:
    """`3 h 12 min`, `21 min 26 s`, `8 s`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours:,} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def moment(seconds: float) -> str:
    """Seconds since 1970 -> `2026-11-22 22:25 UTC`; empty where that is no time."""
    try:
        return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(seconds))
    except (ValueError, OverflowError, OSError):
        return ""


def embedded(value: Any) -> str:
    """Data for the page's script. `<` is written as an escape: no text can end the element."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    return f'<script type="application/json">{text}</script>'
