"""A JSON file's sum of itself, so that any changed byte is found, in a name or a blank as well as in a number."""

from __future__ import annotations

import hashlib
import re

_NONE = "0" * 64
_LAST = re.compile(rb'"sum": "([0-9a-f]{64})"\s*\}\s*\Z')


def seal(text: str) -> str:
    """A JSON object's text -> the same with one more key at its end, `"sum"`: the sha256 of the file's bytes as they
    are when 64 zeros stand in the sum's place."""
    open_ended = text.rstrip().removesuffix("}").rstrip()
    unsummed = f'{open_ended}{"" if open_ended == "{" else ","}\n "sum": "{_NONE}"\n}}\n'
    digest = hashlib.sha256(unsummed.encode()).hexdigest()
    return f'{unsummed[: -len(_NONE) - 5]}"{digest}"\n}}\n'


def holds(raw: bytes) -> bool | None:
    """Whether a file still has its sum; None where it has no sum at all, as those of schema 1."""
    found = _LAST.search(raw)
    if found is None:
        return None
    unsummed = raw[: found.start(1)] + _NONE.encode() + raw[found.end(1) :]
    return hashlib.sha256(unsummed).hexdigest().encode() == found[1]
