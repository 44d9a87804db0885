"""A caller's mistake in choosing or building a net: one line with the value, what was expected and the fix."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class NetError(ValueError):
    """Wrong net name, option or encoder. The message is one line: cause, value, remedy."""


def check_choice(net: str, option: str, value: object, choices: Iterable[str]) -> None:
    """NetError where a net's option is none of its choices, naming the nearest."""
    if value not in (known := list(choices)):
        raise NetError(f"{net} has no {option} {value!r}{nearest(str(value), known)}")


def nearest(name: str, choices: Iterable[str]) -> str:
    """Ends an unknown-name message: `; did you mean 'x'? Choices: x, y, z`."""
    names = [str(choice) for choice in choices]
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"; did you mean {close[0]!r}?" if close else "."
    return f"{hint} Choices: {', '.join(names)}"
