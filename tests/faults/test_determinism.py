"""The same recipe gives the same weights, by sha256, whatever feeds it and however it is logged."""

from __future__ import annotations

import copy
import hashlib
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.faults.ledger import Tally
from tests.train import two_ranks
from train import build, config, loop
from train.distributed import Ranks

Start = Callable[[str, str], Tally]
Many = Callable[[int, int], int]
ALONE = Ranks(0, 1, 0, 1, torch.device("cpu"))
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


def trained_digest(raw: dict[str, Any], folder: Path, ranks: Ranks = ALONE) -> str:
    """Of the weights after the last step. A SIGTERM for the suite, which training takes as its own, ends the suite."""
    run = build.run(config.parse(raw), ranks, folder)
    summary = loop.train(run)
    if summary.stopped_by is not None:
        name = signal.Signals(summary.stopped_by).name
        pytest.exit(f"stopped by {name} from outside, at step {summary.step}", returncode=1)
    return digest(run.net.state_dict())


def variant(raw: dict[str, Any], change: dict[str, Any]) -> dict[str, Any]:
    made = copy.deepcopy(raw)
    for section, keys in change.items():
        made[section] |= keys
    return made


def test_same_weights(raw_recipe: dict[str, Any], tmp_path: Path, tally: Start, many: Many) -> None:
    count = tally("Determinism", "same weights over repeats, threads, prefetch, logging, saving and validating")
    raw_recipe["train"] |= {"steps": 5}
    expected = trained_digest(raw_recipe, tmp_path / "first")
    for number, change in enumerate((VARIANTS * 8)[: many(2, 60)]):
        found = trained_digest(variant(raw_recipe, change), tmp_path / str(number))
        count.check(found == expected, f"trial {number}, {change}: {found}")
    raw_recipe["seed"] = 1
    assert trained_digest(raw_recipe, tmp_path / "other") != expected, "the comparison can fail"


def test_deterministic_algorithms(raw_recipe: dict[str, Any], tmp_path: Path, tally: Start, many: Many) -> None:
    """On a CPU; tests/train/test_backends.py has the operations that are named because a GPU cannot repeat them."""
    if not many(0, 1):
        pytest.skip("in the long part: make faults")
    count = tally("Determinism", "`train.deterministic: true`: the same weights, with one and with two compute threads")
    raw_recipe["train"] |= {"steps": 5, "deterministic": True}
    before = torch.get_num_threads()
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            expected = trained_digest(raw_recipe, tmp_path / f"first{threads}")
            for number, change in enumerate(VARIANTS):
                found = trained_digest(variant(raw_recipe, change), tmp_path / f"{threads}-{number}")
                count.check(found == expected, f"{threads} threads, {change}: {found}")
    finally:
        torch.set_num_threads(before)


def two(rank: int) -> torch.Tensor:
    """A rank's training by the recipe in the file beside the store; its digest as bytes."""
    path = Path(os.environ["SEGRAIL_TEST_RECIPE"])
    ranks = Ranks(rank, 2, rank, 2, torch.device("cpu"))
    return torch.tensor(list(trained_digest(json.loads(path.read_text()), path.with_suffix(""), ranks).encode()))


def test_two_ranks_repeat_themselves(
    raw_recipe: dict[str, Any], tmp_path: Path, tally: Start, many: Many, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not many(0, 1):
        pytest.skip("in the long part: make faults")
    count = tally("Determinism", "two ranks: the same weights on both, and over repeats, threads, prefetch and logging")
    raw_recipe["data"]["batch_size"] = 2
    raw_recipe["train"] |= {"steps": 5}
    found = []
    for number, change in enumerate(VARIANTS):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "r.json").write_text(json.dumps(variant(raw_recipe, change)))
        monkeypatch.setenv("SEGRAIL_TEST_RECIPE", str(folder / "r.json"))
        found += [bytes(one.tolist()).decode() for one in two_ranks.run(two, folder)]
    for number, one in enumerate(found):
        count.check(one == found[0], f"{VARIANTS[number // 2]}, rank {number % 2}: {one}")
