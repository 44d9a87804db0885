"""Range checks for the config dataclasses: one line that names the dotted key, the value and what was expected."""

from __future__ import annotations

import sys
from collections.abc import Iterable

from ingest.errors import UserError, brief, nearest


def number(key: str, value: object, interval: str) -> float:
    """The value, when it is a number in the interval (`"[0, 1)"`, `"(0, inf)"`); else UserError."""
    low, high = (float(end) for end in interval[1:-1].split(","))
    inside = (
        isinstance(value, (int, float))
        and not isinstance(value, bool)
        and abs(value) <= sys.float_info.max  # no nan, no infinity, no integer that is no float
        and (value > low if interval[0] == "(" else value >= low)
        and (value < high if interval[-1] == ")" else value <= high)
    )
    if not inside:
        raise UserError(f"{key} = {brief(value)}: expected a number in {interval}")
    return value  # type: ignore[return-value]  # checked above


def whole(key: str, value: object, low: int, high: int | None = None) -> int:
    """The value, when it is a whole number of at least `low`, and at most `high`; else UserError."""
    if not isinstance(value, int) or isinstance(value, bool) or value < low:
        raise UserError(f"{key} = {brief(value)}: expected a whole number, {low} or more")
    if high is not None and value > high:
        raise UserError(f"{key} = {brief(value)}: expected a whole number of at most {high}")
    return value


def one_of(key: str, value: object, choices: Iterable[str]) -> str:
    """The value, when it is one of the choices; else UserError with the nearest."""
    choices = list(choices)
    if not isinstance(value, str) or value not in choices:
        raise UserError(f"{key} = {brief(value)}, an unknown name{nearest(str(value), choices)}")
    return value
