"""`python -m bench.ingest` measures what it says, on any folder."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from click.testing import CliRunner
from PIL import Image

from bench.ingest import main


def test_a_row_per_worker_count(tmp_path: Path):
    for kind, pixels in (("img", (24, 32, 3)), ("lbl", (24, 32))):
        (tmp_path / kind).mkdir()
        for number in range(4):
            Image.fromarray(np.zeros(pixels, np.uint8)).save(tmp_path / kind / f"{number}.png")
    spec = tmp_path / "s.yaml"
    spec.write_text("{name: s, classes: [a], splits: {train: {images: 'img/*', labels: 'lbl/*'}}}")
    out = tmp_path / "rows.json"
    words = [tmp_path, "--spec", spec, "--workers", 1, "--workers", 2, "--repeats", 1, "--json", out]
    result = CliRunner().invoke(main, [str(word) for word in words])
    assert result.exit_code == 0, result.output
    rows = json.loads(out.read_text())
    assert [row["workers"] for row in rows] == [1, 2]
    for row in rows:
        assert row["images_per_second"] > 0 and row["floor_images_per_second"] > 0 and row["share"] > 0
