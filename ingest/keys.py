"""File names to tar keys: safe, short, unique, and the same on every run."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Sequence

MAX_LENGTH = 60


def make_keys(samples: Sequence[tuple[str, str, str]]) -> list[str]:
    """(split, image name, stem) of every sample of a dataset -> its key.

    The key is the stem. Where that is not safe ([A-Za-z0-9_-], at most 60 characters) or not unique it is cleaned and
    a hash of split and name appended. Unique means also on disks that do not tell capitals from small letters, where
    people unpack tars.
    """
    stems = [stem for _, _, stem in samples]
    used = Counter(stem.lower() for stem in stems)
    keys = []
    for split, name, stem in samples:
        safe = re.sub(r"[^A-Za-z0-9_-]", "_", stem)
        if safe != stem or not stem or len(stem) > MAX_LENGTH or used[stem.lower()] > 1:
            # surrogateescape: a file's name may be bytes that are no UTF-8
            digest = hashlib.sha256(f"{split}/{name}/{stem}".encode("utf-8", "surrogateescape")).hexdigest()[:10]
            safe = f"{safe[: MAX_LENGTH - 11]}-{digest}"
        keys.append(safe)
    return keys
