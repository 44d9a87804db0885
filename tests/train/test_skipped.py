"""Broken samples in a training run: named and stopped at, or skipped, counted and told."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.shard_folder import smooth_scene, write_shards


@pytest.fixture
def damaged(tmp_path: Path) -> Path:
    scenes = [smooth_scene(48, 56, seed=i) for i in range(12)]
    folder = write_shards(tmp_path / "damaged", {"train": scenes, "val": scenes[:2]})
    tar = folder / "train-000001.tar"
    content = bytearray(tar.read_bytes())
    start = content.find(b"train-6.png\0") + 512
    content[start + 100 : start + 200] = bytes(100)
    tar.write_bytes(content)
    return folder


def test_skipped_samples_are_told_once_and_counted(damaged: Path, raw_recipe: dict[str, Any]) -> None:
    raw_recipe["data"] |= {"path": str(damaged), "batch_size": 2}
    cfg = damaged.parent / "r.yaml"
    cfg.write_text(yaml.safe_dump(raw_recipe))
    order = ["-m", "train", "--cfg", str(cfg)]
    stopped = subprocess.run([sys.executable, *order], capture_output=True, text=True)
    assert stopped.returncode == 2 and "Traceback" not in stopped.stderr
    assert "'train-6' in" in stopped.stderr and "train-000001.tar" in stopped.stderr
    assert "data.on_bad_sample=skip" in stopped.stderr
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    run = subprocess.run([*launch, *order, "data.on_bad_sample=skip", "name=two"], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert run.stdout.count("sample 'train-6' counts for nothing: its image is broken") == 1
    (log,) = Path(raw_recipe["output"]).glob("two/*/log.jsonl")
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    # 7 steps of 4 over 12 samples: two whole epochs and a third of the next
    assert sum(line.get("skipped_samples", 0) for line in lines if line["kind"] == "train") in (2, 3)
    assert [line["key"] for line in lines if line.get("what") == "skipped"] == ["train-6"]


def test_a_run_whose_images_are_all_damaged_stops(damaged: Path, raw_recipe: dict[str, Any]) -> None:
    """It would train at loss 0 and end well."""
    for tar in damaged.glob("train-*.tar"):
        content = bytearray(tar.read_bytes())
        for number in range(12):
            start = content.find(f"train-{number}.png\0".encode())
            if start >= 0:
                content[start + 612 : start + 712] = bytes(100)
        tar.write_bytes(content)
    raw_recipe["data"] |= {"path": str(damaged), "batch_size": 2, "on_bad_sample": "skip"}
    cfg = damaged.parent / "r.yaml"
    cfg.write_text(yaml.safe_dump(raw_recipe))
    run = subprocess.run([sys.executable, "-m", "train", "--cfg", str(cfg)], capture_output=True, text=True)
    assert run.returncode == 2 and "Traceback" not in run.stderr
    last = run.stderr.strip().splitlines()[-1]
    assert "2 of the 12 samples of split 'train'" in last and "data.max_bad_share = 0.1" in last and "verify" in last
