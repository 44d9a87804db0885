"""Going on with another number of ranks: the same global batch, the same stream, the same steps; or one clear line."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from click.testing import CliRunner

from ingest.errors import UserError
from tests.train import two_ranks
from train import build, config, loop
from train.__main__ import command
from train.checkpoints import checkpoint, resume
from train.distributed import Ranks
from train.log.window import Window
from train.run import Run

ONE = Ranks(0, 1, 0, 1, torch.device("cpu"))


def state_of(batch_size: int, ranks: int, accumulate: int = 1) -> dict[str, Any]:
    return {
        "batch": resume.batch_facts(batch_size, ranks, accumulate),
        "config": {"data": {"batch_size": batch_size}},
    }


@pytest.mark.parametrize(("ranks", "expected"), [(1, 8), (2, 4), (4, 2), (8, 1)])
def test_the_ranks_share_the_global_batch(raw_recipe: dict, ranks: int, expected: int) -> None:
    assert resume.batch_size(config.parse(raw_recipe), state_of(4, 2), ranks) == expected


def test_a_batch_size_that_keeps_the_global_batch_is_taken(raw_recipe: dict) -> None:
    raw_recipe["data"]["batch_size"] = 8
    assert resume.batch_size(config.parse(raw_recipe), state_of(4, 2), 1) == 8


@pytest.mark.parametrize(
    ("batch_size", "accumulate", "ranks", "message"),
    [
        (4, 1, 3, r"3 ranks cannot share .* trained with 8 \(2 ranks x 4\); go on with one of 1, 2, 4, 8 ranks"),
        (8, 1, 2, r"data\.batch_size = 8 is a global batch of 16 \(2 ranks x 8\).*leave data\.batch_size = 4"),
        (4, 2, 2, r"optimizer\.accumulate = 2, but the checkpoint was trained with 1"),
    ],
)
def test_what_does_not_fit_is_one_line(
    raw_recipe: dict, batch_size: int, accumulate: int, ranks: int, message: str
) -> None:
    raw_recipe["data"]["batch_size"] = batch_size
    raw_recipe["optimizer"]["accumulate"] = accumulate
    with pytest.raises(UserError, match=message) as error:
        resume.batch_size(config.parse(raw_recipe), state_of(4, 2), ranks)
    assert "\n" not in str(error.value)


def test_settings_are_the_recipes_and_moments_the_checkpoints(raw_recipe: dict, tmp_path: Path) -> None:
    raw_recipe["train"] |= {"steps": 2, "val_every_steps": 99}
    loop.train(build.run(config.parse(raw_recipe), ONE, tmp_path / "run"))
    state = checkpoint.load(tmp_path / "run" / "checkpoints" / "last.pt")
    raw_recipe["optimizer"] = {"lr": 0.5, "weight_decay": 0.25, "momentum": 0.5}
    run = build.run(config.parse(raw_recipe), ONE, tmp_path / "run", state)
    group = run.optimizer.param_groups[0]
    assert (group["initial_lr"], group["weight_decay"], group["momentum"]) == (0.5, 0.25, 0.5)
    moments = [run.optimizer.state[p]["momentum_buffer"] for p in group["params"]]
    assert any(moment.any() for moment in moments)
    for change, message in [
        ({"optimizer": {"name": "adamw"}}, r"optimizer\.name = 'adamw', but the checkpoint was trained with 'sgd'"),
        ({"optimizer": {"decay_norm_and_bias": True}}, "other groups of parameters"),
        ({"seed": 5}, "data stream differs"),
    ]:
        with pytest.raises(UserError, match=message):
            build.run(config.parse(raw_recipe | change), ONE, tmp_path / "run", checkpoint.load(run.saver.path("last")))
    with pytest.raises(UserError, match="holds no monitor"):
        build.run(config.parse(raw_recipe), ONE, tmp_path / "x", {k: v for k, v in state.items() if k != "monitor"})


def test_another_number_of_threads_is_told(raw_recipe: dict, tmp_path: Path) -> None:
    raw_recipe["train"] |= {"steps": 1, "val_every_steps": 99}
    (tmp_path / "r.yaml").write_text(yaml.safe_dump(raw_recipe))
    words = ["--cfg", str(tmp_path / "r.yaml"), "--resume", "auto"]
    first = CliRunner().invoke(command, words, catch_exceptions=False)
    (path,) = (tmp_path / "saved" / "toy").glob("*/checkpoints/last.pt")
    state = checkpoint.load(path)
    assert state["threads"] == torch.get_num_threads() and "OpenMP" not in first.output
    checkpoint.save(path, state | {"threads": 7})
    again = CliRunner().invoke(command, words, catch_exceptions=False)
    assert "note: the checkpoint was trained with 7 OpenMP threads a rank, this run has" in again.output
    checkpoint.save(path, {key: value for key, value in state.items() if key != "threads"})  # an older one
    assert "OpenMP" not in CliRunner().invoke(command, words, catch_exceptions=False).output


def watched(run: Run) -> list[str]:
    """The keys of every batch of this rank, as it trains."""
    keys: list[str] = []
    original = run.one_step

    def step(batches: Any, window: Window) -> Any:
        result = original(batches, window)
        keys.extend(window._bad._keys[-1])
        return result

    run.one_step = step  # type: ignore[method-assign]
    return keys


def _two(raw: dict[str, Any], folder: Path, resumed: bool, rank: int) -> dict[str, Any]:
    run_folder = folder / "run"
    state = checkpoint.load(run_folder / "checkpoints" / "last.pt") if resumed else None
    # what torchrun would say, for the shares of the cores
    run = build.run(config.parse(raw), Ranks(rank, 2, rank, 2, torch.device("cpu")), run_folder, state)
    keys = watched(run)
    summary = loop.train(run)
    average = {} if run.ema is None else run.ema.state_dict()["average"]
    return {
        "keys": keys,
        "step": summary.step,
        "total": run.length.total,
        "early": summary.early,
        "batch": run.loader.batch_size,
        "miou": summary.best_miou,
        "loss": None if summary.last is None else summary.last.loss,
        "weights": {name: value.clone() for name, value in run.net.named_parameters()},
        "average": dict(average),
    }


@pytest.mark.slow
def test_two_ranks_go_on_as_one_and_one_as_two(raw_recipe: dict, tmp_path: Path) -> None:
    """Epochs, not steps, so that the derived length is seen to stay."""
    os.environ["OMP_NUM_THREADS"] = "1"
    raw_recipe["data"]["batch_size"] = 2
    raw_recipe["train"] = {"epochs": 3, "val_every_steps": 3, "log_every": 1, "device": "cpu", "ema": 0.9}
    alone = build.run(
        config.parse(raw_recipe | {"data": raw_recipe["data"] | {"batch_size": 4}}), ONE, tmp_path / "alone"
    )
    expected = watched(alone)
    loop.train(alone)
    assert alone.length.total == 9

    first = raw_recipe | {"train": raw_recipe["train"] | {"epochs": 1}}  # three steps, two ranks
    (tmp_path / "a").mkdir()
    one, two = two_ranks.run(partial(_two, first, tmp_path, False), tmp_path / "a")
    assert (one["total"], one["batch"]) == (3, 2)
    assert all(torch.equal(one["average"][name], two["average"][name]) for name in one["average"])
    assert (one["miou"], one["loss"]) == (two["miou"], two["loss"]) and one["loss"] is not None

    middle = build.run(
        config.parse(raw_recipe | {"train": raw_recipe["train"] | {"epochs": 2}}),
        ONE,
        tmp_path / "run",
        checkpoint.load(tmp_path / "run" / "checkpoints" / "last.pt"),
    )
    keys = watched(middle)
    assert (middle.step, middle.loader.batch_size, middle.length.total) == (3, 4, 6)
    loop.train(middle)

    (tmp_path / "b").mkdir()
    three, four = two_ranks.run(partial(_two, raw_recipe, tmp_path, True), tmp_path / "b")
    assert (three["step"], three["total"], three["batch"]) == (9, 9, 2)

    def together(a: list[str], b: list[str]) -> list[str]:
        return [key for at in range(0, len(a), 2) for key in (*a[at : at + 2], *b[at : at + 2])]

    assert together(one["keys"], two["keys"]) + keys + together(three["keys"], four["keys"]) == expected
    assert all(torch.equal(three["weights"][name], four["weights"][name]) for name in three["weights"])


@pytest.mark.slow
def test_the_patience_of_all_ranks_ends_at_the_same_step(raw_recipe: dict, tmp_path: Path) -> None:
    """With a learning rate of almost nothing no validation is better than the first."""
    raw_recipe["data"]["batch_size"] = 2
    raw_recipe["optimizer"]["lr"] = 1e-30
    raw_recipe["train"] = {
        "steps": 9,
        "val_every_steps": 1,
        "patience": 2,
        "device": "cpu",
        "monitor": "pixel_accuracy",
    }
    raw_recipe["net"] = {"name": "enet", "freeze_bn": "all"}
    (tmp_path / "a").mkdir()
    found = two_ranks.run(partial(_two, raw_recipe, tmp_path, False), tmp_path / "a")
    assert [(each["step"], each["early"]) for each in found] == [(3, True), (3, True)]
