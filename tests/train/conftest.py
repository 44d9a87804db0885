"""A toy dataset and a recipe that trains on it in seconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.shard_folder import smooth_scene, write_shards
from train import build, config, loop
from train.distributed import joined


@pytest.fixture(scope="session")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shard folder: 12 training and 5 validation scenes of three sizes, 5 classes."""
    sizes = [(40, 56), (48, 48), (37, 61)]
    train = [smooth_scene(*sizes[i % 3], seed=i) for i in range(12)]
    val = [smooth_scene(*sizes[i % 3], seed=100 + i) for i in range(5)]
    return write_shards(tmp_path_factory.mktemp("toy"), {"train": train, "val": val})


@pytest.fixture
def raw_recipe(toy: Path, tmp_path: Path) -> dict[str, Any]:
    """A recipe as a YAML file would hold it; tests change it and parse it."""
    return {
        "name": "toy",
        "output": str(tmp_path / "saved"),
        "data": {"path": str(toy), "batch_size": 4, "threads": 1},
        "augment": {"crop": [32, 32], "base_size": 48},
        "net": {"name": "enet"},
        "optimizer": {"lr": 0.02},
        "train": {"steps": 7, "val_every_steps": 4, "save_every_steps": 1, "log_every": 2, "device": "cpu"},
    }


@pytest.fixture(scope="session")
def trained(toy: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """best.pt of a short run on the toy scenes."""
    folder = tmp_path_factory.mktemp("trained")
    raw = {
        "data": {"path": str(toy), "batch_size": 4},
        "augment": {"crop": [32, 32], "base_size": 48},
        "net": {"name": "enet"},
        "optimizer": {"name": "adamw", "lr": 0.005},
        "train": {"steps": 12, "val_every_steps": 6, "device": "cpu"},
    }

    with joined("cpu") as ranks:
        loop.train(build.run(config.parse(raw), ranks, folder))
    return folder / "checkpoints" / "best.pt"
