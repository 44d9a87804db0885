"""The table of a dataset's costs by its size, on made-up records that a reader takes for true."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from click.testing import CliRunner
from PIL import Image

from bench import scale
from bench.data import records
from ingest.shards.reader import ShardSet


def test_records_are_a_dataset_of_that_size(tmp_path: Path) -> None:
    shards = ShardSet(records.write(tmp_path / "records", 1003, 7, 3), records.SPLIT)
    assert len(shards) == 1003 and len(shards.counts) == 7 and sum(shards.counts) == 1003
    assert shards.keys[0] == "000000000" and shards.keys[1002] == "000001002"
    assert shards.areas(500).ids.tolist() == [6, 7, 8] and shards.areas(1002).grids.shape == (3, 8, 8)
    per_sample = shards.class_pixels_per_sample()
    assert (np.count_nonzero(per_sample, axis=1) == 3).all()
    shards.will_need(range(1003))


def test_the_command(tmp_path: Path) -> None:
    words = ["--samples", "4000", "--repeats", "1", "--json", tmp_path / "x.json", "--plot", tmp_path / "x.png"]
    done = CliRunner().invoke(scale.main, [str(word) for word in words])
    assert done.exit_code == 0, done.output
    head, row = done.stdout.splitlines()
    assert head.split()[:2] == ["samples", "shards"] and row.split()[:2] == ["4,000", "2"]
    found = json.loads((tmp_path / "x.json").read_text())
    assert set(found["rows"]) == {"4000"} and "torch" in found["versions"]
    assert set(scale._COLUMNS) < set(found["rows"]["4000"])
    assert Image.open(tmp_path / "x.png").height > 400
