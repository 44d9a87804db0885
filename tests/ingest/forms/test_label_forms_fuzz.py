"""Odd values anywhere in an annotation file: read, or refused in one line; never anything else."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ingest.convert import Rules, convert
from ingest.datasets import folder
from ingest.errors import UserError
from tests.ingest.forms.label_exports import EXPORTS, write_images
from tests.ingest.forms.test_label_forms import spec_file
from tests.ingest.forms.test_label_forms_faults import FILES

ODD: list[Any] = [None, "x", "", -1, 0, 1e308, -1e308, float("nan"), float("inf"), [], {}, [[]], [1], {"a": 1}, True]
ODD += [10**30, "9" * 50, "..", "\n", 1.5, [None], "0,0;1,1", [[1, 2, 3]]]


def places(held: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where a parsed json file holds something; long lists (run lengths) count by their first few."""
    if path:
        yield path
    inner = held.items() if isinstance(held, dict) else enumerate(held[:8]) if isinstance(held, list) else ()
    for key, value in inner:
        yield from places(value, (*path, key))


def changed(data: str, rng: random.Random) -> str:
    """The file with one value replaced or taken out."""
    held = json.loads(data)
    *path, last = rng.choice(list(places(held)))
    inner = held
    for key in path:
        inner = inner[key]
    if rng.random() < 0.25:
        del inner[last]
    else:
        inner[last] = rng.choice(ODD)
    return json.dumps(held)


@pytest.mark.parametrize("form", [form for form in FILES if form not in ("yolo", "cvat")])
def test_odd_values(tmp_path: Path, form: str) -> None:
    raw = tmp_path / "raw"
    write_images(raw)
    spec = folder.load_spec(str(spec_file(raw, EXPORTS[form](raw))))
    path, rng = raw / FILES[form], random.Random(0)
    data = path.read_text()
    outcomes = {"read": 0, "refused": 0}
    for _ in range(50):
        path.write_text(changed(data, rng))
        try:
            found = folder.find(raw, spec)
            for pair in found.splits["train"]:
                convert(pair, Rules(found.labels, tuple(found.classes)))
            outcomes["read"] += 1
        except UserError as error:
            assert "\n" not in str(error) or "\n" in path.read_text()
            outcomes["refused"] += 1
    assert outcomes["read"] and outcomes["refused"], outcomes
