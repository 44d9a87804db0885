"""File names to tar keys: safe, short, unique, and the same on every run."""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter
from collections.abc import Sequence

MAX_LENGTH = 60


def make_keys(samples: Sequence[tuple[str, str]]) -> list[str]:
    """(split, image name) of every sample of a dataset -> its key.

    The key is the file's stem. Where that is not safe ([A-Za-z0-9_-], at most 60 characters) or not unique (letter
    case apart: tars get unpacked on such disks) it is cleaned and a hash of split and name appended.
    """
    stems = [os.path.splitext(os.path.basename(name))[0] for _, name in samples]
    used = Counter(stem.lower() for stem in stems)
    keys = []
    for (split, name), stem in zip(samples, stems, strict=True):
        safe = re.sub(r"[^A-Za-z0-9_-]", "_", stem)
        if safe != stem or not stem or len(stem) > MAX_LENGTH or used[stem.lower()] > 1:
            digest = hashlib.sha256(f"{split}/{name}".encode()).hexdigest()[:10]
            safe = f"{safe[: MAX_LENGTH - 11]}-{digest}"
        keys.append(safe)
    return keys
