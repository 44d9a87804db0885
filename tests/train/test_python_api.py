"""docs/python.md runs as it stands, on a toy dataset and a toy checkpoint, and gives what it says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tests.conftest import ROOT

BLOCKS = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "python.md").read_text(), re.S)


def run(mark: str, **names: str) -> dict[str, Any]:
    """Executes the page's block that holds `mark`, with its example names replaced; its variables."""
    (block,) = [block for block in BLOCKS if mark in block]
    assert len([line for line in block.splitlines() if line and not line.startswith(("from ", "import "))]) <= 5
    for example, real in names.items():
        assert example in block
        block = block.replace(example, real)
    found: dict[str, Any] = {}
    exec(block, found)
    return found


def test_open_shards_and_look(toy: Path) -> None:
    found = run("decode.image", **{"shards/mine": str(toy)})
    shards, image, label = found["shards"], found["image"], found["label"]
    assert image.dtype == label.dtype == np.uint8
    assert image.shape == (*shards.sizes_hw[0], 3) and label.shape == tuple(shards.sizes_hw[0])
    assert set(np.unique(label)) <= {*range(shards.manifest.num_classes), 255}


def test_iterate_batches(toy: Path) -> None:
    found = run("TrainLoader", **{"shards/mine": str(toy), "(512, 512)": "(32, 48)", "range(100)": "range(3)"})
    batch = found["batch"]
    assert batch.images.shape == (8, 3, 32, 48) and batch.labels.shape == (8, 32, 48) and len(batch.keys) == 8


def test_build_a_net() -> None:
    found = run("nets.build", resnet50="resnet18")
    assert sum(parameter.numel() for parameter in found["net"].parameters()) > 1e6


def test_use_a_checkpoint(trained: Path, tmp_path: Path) -> None:
    photo = tmp_path / "photo.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 56, 3), dtype=np.uint8)).save(photo)
    found = run("train.load", **{"saved/mine/RUN/checkpoints/best.pt": str(trained), "photo.jpg": str(photo)})
    model, mask = found["model"], found["mask"]
    assert mask.shape == (40, 56) and mask.dtype == np.uint8 and mask.max() < len(model.classes)
    assert len(model.palette) == len(model.classes)


def test_no_block_is_left_out() -> None:
    assert len(BLOCKS) == 4
