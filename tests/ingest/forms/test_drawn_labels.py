"""A label that is drawn from shapes instead of read from a file goes the same way as a mask."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ingest.convert import Converted, Rules, convert
from ingest.errors import UserError
from ingest.forms import registry
from ingest.pixels.labels import identity
from ingest.sources.raw import Pair
from ingest.sources.trees import Tree


@dataclass(frozen=True)
class Left:
    """Draws class 1 into the left half of an image of its own recorded size, or of any."""

    name: str = "a.json: one.png"
    size: int = 100
    hw: tuple[int, int] | None = None
    upright: bool = False

    def ids(self, height: int, width: int) -> np.ndarray:
        out = np.zeros(self.hw or (height, width), np.uint8)
        out[:, : out.shape[1] // 2] = 1
        return out


def test_a_drawn_label_is_stored_and_counted(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((6, 8, 3), np.uint8)).save(tmp_path / "one.png")
    source = Tree(tmp_path).source("one.png")
    rules = Rules(identity(2), ("sky", "road"))
    done = convert(Pair(source, Left()), rules)
    assert isinstance(done, Converted) and done.label is not None
    ids = np.asarray(Image.open(io.BytesIO(done.label)))
    np.testing.assert_array_equal(ids, Left().ids(6, 8))
    assert [entry[:2] for entry in done.classes or []] == [(0, 24), (1, 24)]
    with pytest.raises(UserError, match=r"one\.png is 8x6, its label 9x6"):
        convert(Pair(source, Left(hw=(6, 9))), rules)


def test_unknown_form_lists_the_others() -> None:
    with pytest.raises(UserError, match="no label form 'nope'"):
        registry.get("nope")
