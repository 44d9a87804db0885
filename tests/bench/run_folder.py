"""A run folder as a finished training leaves it, without the training."""

from __future__ import annotations

import json
from pathlib import Path

from train import config
from train.config import Recipe


def write_run(folder: Path, recipe: Recipe, miou: float | None, ranks: int = 1, gpu: str = "none") -> Path:
    """20 steps of 0.5 s, two minutes in all; miou None: without validation. Returns the folder."""
    folder.mkdir(parents=True)
    start = {"time": 100.0, "step": 0, "kind": "event", "what": "start", "cpu": "2 x Z", "gpu": gpu, "ranks": ranks}
    step = {"time": 220.0, "step": 20, "kind": "train", "seconds_per_step": 0.5}
    (folder / "config.yaml").write_text(config.to_yaml(recipe))
    lines = [{**start, "commit": "abc", "torch": "2.99"}, step]
    (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    if miou is not None:
        steps, iou = recipe.train.steps or 9, {"pole": 0.25, "sky": None}
        found = {"step": steps, "split": "val", "best": [0.9, 5, 0.9], "pixel_accuracy": 0.8, "miou": miou, "iou": iou}
        (folder / "validation.json").write_text(json.dumps(found))
    return folder
