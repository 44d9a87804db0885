"""The same recipe gives the same weights, by sha256, whatever feeds it and however it is logged."""

from __future__ import annotations

import copy
import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.faults.ledger import Tally
from tests.train import two_ranks
from train import build, config, loop
from train.distributed import Ranks

VARIANTS: list[dict[str, Any]] = [
    {},
    {"data": {"threads": 2}},
    {"data": {"threads": 5, "prefetch": 7}},
    {"data": {"prefetch": 1}},
    {"train": {"log_every": 1, "train_miou": True}},
    {"train": {"save_every_steps": 0, "pictures": 0}},
    {"train": {"val_every_steps": 2, "keep_best": 3}},
    {"data": {"val": ""}},
]


def digest(weights: dict[str, torch.Tensor]) -> str:
    found = hashlib.sha256()
    for name, tensor in weights.items():
        found.update(name.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
    return found.hexdigest()


def trained_digest(raw: dict[str, Any], folder: Path) -> str:
    run = build.run(config.parse(raw), Ranks(0, 1, 0, 1, torch.device("cpu")), folder)
    loop.train(run)
    return digest(run.net.state_dict())


def test_same_weights(
    raw_recipe: dict[str, Any], tmp_path: Path, tally: Callable[[str, str], Tally], many: Callable[[int, int], int]
) -> None:
    count = tally("Determinism", "same weights over repeats, threads, prefetch, logging, saving and validating")
    raw_recipe["train"] |= {"steps": 5}
    expected = trained_digest(raw_recipe, tmp_path / "first")
    for number, change in enumerate((VARIANTS * 4)[: many(2, 30)]):
        raw = copy.deepcopy(raw_recipe)
        for section, keys in change.items():
            raw[section] |= keys
        count.check(trained_digest(raw, tmp_path / str(number)) == expected, str(change))
    raw_recipe["seed"] = 1
    assert trained_digest(raw_recipe, tmp_path / "other") != expected, "the comparison can fail"


def two(rank: int) -> torch.Tensor:
    """A rank's training by the recipe in the file beside the store; its digest as bytes."""
    raw = json.loads(Path(os.environ["SEGRAIL_TEST_RECIPE"]).read_text())
    folder = Path(os.environ["SEGRAIL_TEST_RECIPE"]).with_suffix("")
    run = build.run(config.parse(raw), Ranks(rank, 2, rank, 2, torch.device("cpu")), folder)
    loop.train(run)
    return torch.tensor(list(bytes.fromhex(digest(run.net.state_dict()))))


def test_two_ranks_repeat_themselves(
    raw_recipe: dict[str, Any],
    tmp_path: Path,
    tally: Callable[[str, str], Tally],
    many: Callable[[int, int], int],
    monkeypatch: Any,
) -> None:
    if not many(0, 1):
        pytest.skip("in the long part: make faults")
    count = tally("Determinism", "two ranks: the same weights on both, and in each run")
    raw_recipe["data"]["batch_size"] = 2
    raw_recipe["train"] |= {"steps": 5}
    found = []
    for number in range(4):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "r.json").write_text(json.dumps(raw_recipe))
        monkeypatch.setenv("SEGRAIL_TEST_RECIPE", str(folder / "r.json"))
        found += two_ranks.run(two, folder)
    for one in found:
        count.check(torch.equal(one, found[0]), "digests differ")
